"""Exported programs give what the model gives, at sizes they were not traced at."""
import json

import onnx
import onnxruntime
import pytest
import torch
from test_interop.foreign_checkpoints import (SIZE, classifier_model, mixedae_model,
                                              mm_checkpoint)

import mixedae_mm
from mixedae_mm.apis import export as export_module
from mixedae_mm.apis.export import ExportableViT, export
from mixedae_mm.utils.errors import ConfigurationError

# torch.export takes sizes as variables only from here on; on an older PyTorch
# the one thing to test is that it says so.
OLD_TORCH = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 5)
new_torch = pytest.mark.skipif(OLD_TORCH, reason='exporting needs PyTorch 2.5')

SIZES = [(1, SIZE, SIZE), (5, SIZE, SIZE), (1, 2 * SIZE, SIZE), (2, 32, 160)]
MODELS = {
    'encoder': mixedae_model,
    'mean': lambda: classifier_model('mean'),
    'cls': lambda: classifier_model('cls'),
}


def made(kind, folder):
    """The mmpretrain model, its encoder, and whether it is a classifier."""
    model = mm_checkpoint(folder / 'model.pth', MODELS[kind]())
    return model, mixedae_mm.load(folder / 'model.pth', 'cpu'), kind != 'encoder'


@pytest.fixture
def encoder(tmp_path):
    return made('encoder', tmp_path)[1]


def runtime(path):
    """A function of images, in the runtime that the file is for."""
    if path.suffix == '.onnx':
        session = onnxruntime.InferenceSession(
            path, providers=['CPUExecutionProvider'])
        return lambda images: tuple(map(
            torch.from_numpy, session.run(None, dict(images=images.numpy()))))
    program = torch.export.load(path).module()

    def run(images):
        result = program(images)
        return result if isinstance(result, tuple) else (result, )

    return run


@new_torch
@pytest.mark.parametrize('kind', MODELS)
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2', '.PT2'])
def test_equal_at_every_size(kind, tmp_path, suffix):
    model, encoder, classifier = made(kind, tmp_path)
    out = tmp_path / f'exported{suffix}'
    checks = export(encoder, out, classifier)
    assert len({check.name for check in checks}) >= 3
    run = runtime(out)
    for shape in SIZES:
        images = torch.rand(shape[0], 3, *shape[1:])
        normalized = encoder.preprocessing.normalize(images)
        with torch.no_grad():
            if classifier:
                want = (model(normalized, mode='tensor'), )
            else:
                tokens = model.backbone(normalized)[-1]
                want = (tokens[:, 0], tokens[:, 1:])
        for got, value in zip(run(images), want, strict=True):
            torch.testing.assert_close(got, value, rtol=0, atol=2e-5)
    if suffix == '.onnx':  # it says what it takes
        file = onnx.load(out)
        onnx.checker.check_model(file)
        assert [i.name for i in file.graph.input] == ['images']
        assert [o.name for o in file.graph.output] == (
            ['logits'] if classifier else ['cls', 'patches'])
        about = {entry.key: entry.value for entry in file.metadata_props}
        assert 'RGB in 0..1' in about['input']
        assert json.loads(about['img_size']) == [SIZE, SIZE]


@new_torch
def test_other_channels_are_taken_in_the_units_of_their_files(tmp_path):
    config = mixedae_model()
    config['backbone']['in_channels'] = 5
    config['data_preprocessor'].update(mean=[900.] * 5, std=[50., 60, 70, 80, 90])
    model = mm_checkpoint(tmp_path / 'model.pth', config)
    encoder = mixedae_mm.load(tmp_path / 'model.pth', 'cpu')
    export(encoder, tmp_path / 'm.pt2')
    images = 900 + 100 * torch.randn(2, 5, SIZE, SIZE)
    with torch.no_grad():
        tokens = model.backbone(model.data_preprocessor(dict(inputs=images))['inputs'])
    torch.testing.assert_close(
        runtime(tmp_path / 'm.pt2')(images)[0], tokens[-1][:, 0], rtol=0, atol=1e-4)


@new_torch
def test_large_onnx_keeps_its_weights_beside_it(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, 'LARGEST_SINGLE_FILE', 0)
    (tmp_path / 'out').mkdir()
    export(encoder, tmp_path / 'out/m.onnx')
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'm.onnx', 'm.onnx.data']
    runtime(tmp_path / 'out/m.onnx')(torch.rand(1, 3, SIZE, SIZE))


@new_torch
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_a_wrong_program_is_not_written(encoder, tmp_path, monkeypatch, suffix):
    right = ExportableViT.forward
    monkeypatch.setattr(ExportableViT, 'forward',
                        lambda self, images: right(self, images.flip(-1)))
    (tmp_path / 'out').mkdir()
    with pytest.raises(ConfigurationError, match='was not exported: .* differs'):
        export(encoder, tmp_path / f'out/m{suffix}')
    assert not list((tmp_path / 'out').iterdir())


@new_torch
def test_refusals(encoder, tmp_path):
    (tmp_path / 'there.onnx').write_text('precious')
    for out, classifier, message in (
        ('m.tflite', False, 'must end in one of'),
        ('m.onnx', True, 'has no classifier'),
        ('absent/m.onnx', False, 'absent does not exist'),
        ('there.onnx', False, 'exists already'),
    ):
        with pytest.raises(ConfigurationError, match=message):
            export(encoder, tmp_path / out, classifier)
    assert (tmp_path / 'there.onnx').read_text() == 'precious'


@pytest.mark.skipif(not OLD_TORCH, reason='this PyTorch exports')
def test_old_torch_is_refused(encoder, tmp_path):
    with pytest.raises(ConfigurationError, match='needs PyTorch 2.5 or newer'):
        export(encoder, tmp_path / 'm.onnx')
