"""The commands as a person types them."""
import pytest
import torch
from foreign_checkpoints import (classifier_model, hf_sizes, mixedae_model,
                                 mm_checkpoint, shaken)
from PIL import Image
from skimage.data import astronaut


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_from_a_checkpoint_to_a_contact_sheet(folder, command, capsys):
    mm_checkpoint('epoch_1.pth', mixedae_model())
    (folder / 'images').mkdir()
    for i in range(6):
        Image.fromarray(astronaut()[40 * i:40 * i + 200, 200:]).save(f'images/{i}.jpg')

    assert command('convert', 'epoch_1.pth', 'model', '--to', 'hf') == 0
    said = capsys.readouterr().out
    assert 'mapped    30 encoder tensors' in said
    assert 'largest difference to the source on an image: features' in said
    assert command('extract_features', 'images', 'f.parquet',
                   '--checkpoint', 'model') == 0
    assert 'f.parquet: 6 images' in capsys.readouterr().out
    Image.open('images/2.jpg').save('copy.png')
    assert command('nearest_neighbours', 'f.parquet', 'copy.png', '--count', 2) == 0
    assert '1.0000  2.jpg' in capsys.readouterr().out.splitlines()
    assert (folder / 'neighbours.png').exists()


def test_what_is_left_out_is_said(command, capsys):
    """Hugging Face's pooler has no place in the other libraries."""
    transformers = pytest.importorskip('transformers')
    shaken(transformers.ViTModel(transformers.ViTConfig(**hf_sizes()))
           ).save_pretrained('hf')
    assert command('convert', 'hf', 'mm', '--to', 'mm') == 0
    assert 'left out  2 tensors that have no place there: pooler.dense' in \
        capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'),
                    reason='exporting needs PyTorch 2.5')
def test_export_of_a_classifier(folder, command, capsys):
    mm_checkpoint('best.pth', classifier_model('mean'))
    assert command('export', 'best.pth', 'best.onnx', '--classifier') == 0
    assert 'difference between onnxruntime and the model' in capsys.readouterr().out
    assert (folder / 'best.onnx').exists()
