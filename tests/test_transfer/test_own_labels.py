"""Labels of one's own: from the page's configs to predictions, in every toolbox."""
import json
import re
import shutil
from pathlib import Path

import images
import numpy as np
import pytest
import torch
from mmengine.config import Config
from own_data import (ARCH, LOADERS, METRIC, PAGE, ROOT, SHAPES, SIDE, SMALL, TOOLBOX,
                      last_checkpoint, page_config, run, write_checkpoint, write_sets)
from PIL import Image, ImageDraw

from mixedae_mm import config_path, predict
from mixedae_mm.analysis.loading import load_model
from mixedae_mm.config.own_labels import KEYS, usual_suffix
from mixedae_mm.config.tree import resolve
from mixedae_mm.launch.checks import schedule_note
from mixedae_mm.utils.errors import ConfigurationError


def draw(path, i, box):
    image = Image.new('RGB', (SIDE, SIDE), (30 * i, 90, 120))
    ImageDraw.Draw(image).rectangle(box, fill=(200, 40 * i, 20))
    image.save(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three data sets in the page's layouts, and the checkpoint that it names."""
    root = tmp_path_factory.mktemp('own')
    write_sets(root, draw, '.png', '.jpg')
    write_checkpoint(root / 'work_dirs/mixedae_vitb_folder/epoch_300.pth')
    for name in TOOLBOX:
        (root / f'{name}.py').write_text(page_config(name))
    return root


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize('name', TOOLBOX)
def test_configs_of_the_page_are_short_and_know_classes_and_encoder(here, name):
    lines = page_config(name).splitlines()
    assert sum(bool(line) and not line.startswith('#') for line in lines) <= 6
    cfg = Config.fromfile(f'{name}.py')
    classes = dict(segment=('background', 'leaf', 'stem')).get(name, SHAPES)
    for part in ('train', 'val', 'test'):
        assert cfg[f'{part}_dataloader'].dataset.metainfo.classes == classes
    assert cfg.model.backbone.arch == ARCH and cfg.model.backbone.patch_size == 8
    # Everything that says it, in 1 head, 2 heads, 3 + 1 heads.
    numbers = re.findall(r'num_classes=(\d+)', cfg.pretty_text)
    assert numbers == dict(classify=['3'] * 2, segment=['3'] * 2,
                           detect=['3'] * 4)[name]
    assert not re.search(r'in_channels=\[?\s*768', cfg.pretty_text)  # of ViT-B
    # What is saved is an ordinary config, which needs neither data nor checkpoint.
    assert not set(KEYS) & set(cfg)
    assert 'data/' not in cfg.pretty_text
    if name == 'segment':
        assert cfg.train_dataloader.dataset.img_suffix == '.png'


def test_the_usual_suffix_is_one_of_images(tmp_path):
    for name in ('a.json', 'b.json', 'c.json', 'below/a.PNG', 'below/b.PNG', 'c.npy'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert usual_suffix(str(tmp_path)) == '.PNG'
    assert usual_suffix(str(tmp_path / 'none')) == ''


@pytest.mark.parametrize('name, size, sizes', [
    ('classify', 96, {
        'model.backbone.img_size': 96, 'train_dataloader.dataset.pipeline.1.scale': 96,
        'val_dataloader.dataset.pipeline.1.scale': 110,
        'test_dataloader.dataset.pipeline.2.crop_size': 96}),
    ('segment', 64, {
        'model.backbone.img_size': 64, 'model.data_preprocessor.size': (64, 64),
        'train_dataloader.dataset.pipeline.2.scale': (256, 64),
        'train_dataloader.dataset.pipeline.3.crop_size': (64, 64),
        'val_dataloader.dataset.pipeline.1.scale': (256, 64),
        'model.test_cfg.stride': (43, 43), 'tta_pipeline.1.transforms.0.0.scale':
        (128, 32), 'model.decode_head.channels': ARCH['embed_dims']}),
    ('detect', 100, {
        'model.backbone.img_size': 224, 'test_dataloader.dataset.pipeline.1.scale':
        (167, 100), 'train_dataloader.dataset.pipeline.2.scales.0': (167, 60),
        'model.rpn_head.anchor_generator.scales': [8]})])
def test_one_key_says_the_size_of_images(here, name, size, sizes):
    """The rest of a recipe keeps its proportions; anchors and positions stay."""
    Path('sized.py').write_text(page_config(name) + f'image_size = {size}\n')
    cfg = Config.fromfile('sized.py')
    assert {key: resolve(cfg, key.split('.')) for key in sizes} == sizes


@pytest.mark.parametrize('name, line, facts', [
    ('segment', 'image_size = 100', '100, .*multiple of the patch size, 8'),
    ('classify', 'image_size = 0', 'image_size .* 0, '),
    ('classify', 'image_size = True', 'image_size .* True, '),
    ('detect', 'image_size = 9', '9, .*16 or more'),
    ('detect', 'image_size = "96"', "'96'"),
    ('classify', 'data_root = None', 'data_root .* None, but must be a path'),
    ('detect', 'data_root = 5', 'data_root .* 5, but must be a path'),
    ('classify', 'pretrained = 1', 'pretrained .* 1, but must be a path, or None'),
    ('detect', 'pretrained = False', 'pretrained .* False, but must be a path, or'),
    ('segment', "reduce_zero_label = 'no'", "reduce_zero_label .*'no', .*True or"),
    ('segment', 'classes = 2', 'classes .* 2, .*tuple of different names'),
    ('classify', 'classes = (1, 2)', r'classes .*\(1, 2\), .*different names'),
    ('segment', "classes = ('a', 'a')", r"\('a', 'a'\), .*different names"),
    # One class without a comma is not a tuple of letters.
    *((name, "classes = ('lid')", r"'lid'.*\('lid', \)") for name in TOOLBOX),
    # One class has nothing to be told from.
    *((name, "classes = ('lid', )", "one class 'lid'.*at least two")
      for name in ('classify', 'segment'))])
def test_what_a_key_cannot_be(here, name, line, facts):
    Path('refused.py').write_text(page_config(name) + line + '\n')
    with pytest.raises(ConfigurationError, match=facts):
        Config.fromfile('refused.py')


@pytest.mark.parametrize('size', [224, 96])
def test_only_pixels_are_resized(here, size):
    """Not the factors of a step that has a ``scale`` of another meaning."""
    Path('scaled.py').write_text(page_config('classify') + f'''image_size = {size}
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=224),
    dict(type='torchvision/RandomAffine', degrees=5, scale=(0.9, 2.0)),
    dict(type='PackInputs')]))''')
    cfg = Config.fromfile('scaled.py')
    _, resize, affine, _ = cfg.train_dataloader.dataset.pipeline
    assert (resize.scale, affine.scale) == (size, (0.9, 2.0))


def test_the_size_of_the_recipe_needs_no_whole_patches(here):
    """As configs/segmentation/upernet_vith: 512 pixels are 37 padded patches of 14."""
    content = torch.load('work_dirs/mixedae_vitb_folder/epoch_300.pth')
    content['meta']['cfg'] = content['meta']['cfg'].replace(
        'patch_size=8', 'patch_size=14')
    torch.save(content, 'fourteen.pth')
    Path('fourteen.py').write_text(
        page_config('segment') + "pretrained = 'fourteen.pth'\n")
    backbone = Config.fromfile('fourteen.py').model.backbone
    assert (backbone.img_size, backbone.patch_size) == (512, 14)


@pytest.mark.parametrize('theirs', [
    dict(type='SwinTransformer', arch='tiny'), dict(type='ResNet', depth=50),
    dict(type='VisionTransformer', arch=dict(embed_dims=24)),
    dict(type='VisionTransformer', arch='base', patch_size=(8, 8))])
def test_an_encoder_of_another_kind_is_left_to_the_loading(here, theirs):
    text = Config(dict(model=dict(backbone=theirs))).pretty_text
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), 'other.pth')
    Path('other.py').write_text(page_config('classify') + "pretrained = 'other.pth'\n")
    assert Config.fromfile('other.py').model.backbone.arch == 'base'


def test_a_start_from_random_weights(here):
    Path('scratch.py').write_text(page_config('classify') + 'pretrained = None\n')
    backbone = Config.fromfile('scratch.py').model.backbone
    assert backbone.init_cfg is None and backbone.arch == 'base'


@pytest.mark.parametrize('val, classes, facts', [
    (['ant'], None, 'val does not have the folders of .*train: missing: bee'),
    (['ant', 'bee', '.cache'], None, 'in it only: .cache'),
    (['ant', 'bee'], ('bee', 'ant'), r"another order .*\('ant', 'bee'\)"),
    (['ant', 'bee'], ('ant', 'wasp'), 'folders of classes: missing: wasp')])
def test_class_folders_are_the_classes(val, classes, facts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part, names in (('train', ['ant', 'bee']), ('val', val)):
        for name in names:
            Path('birds', part, name).mkdir(parents=True)
    Path('mine.py').write_text(
        "_base_ = 'mixedae_mm::own_labels/classification.py'\ndata_root = 'birds'\n"
        + (f'classes = {classes}\n' if classes else ''))
    with pytest.raises(ConfigurationError, match=facts):
        Config.fromfile('mine.py')


def test_without_data_the_config_is_read_and_with_wrong_data_refused(
        tmp_path, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', str(tmp_path / 'nothing'))
    path = config_path('own_labels/classification.py')
    cfg = Config.fromfile(path)
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path / 'nothing')
    monkeypatch.setenv('DATA_ROOT', str(tmp_path))
    (tmp_path / 'train').mkdir()
    with pytest.raises(ConfigurationError, match='train has no folders'):
        Config.fromfile(path)
    with pytest.raises(ConfigurationError, match='no classes'):
        Config.fromfile(config_path('own_labels/segmentation.py'))
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/train.json').write_text('[]')
    with pytest.raises(ConfigurationError, match='train.json names no categories'):
        Config.fromfile(config_path('own_labels/detection.py'))


@pytest.mark.parametrize('ends, length, words', [
    ([40, 300], 2, ['epoch 300', 'at 2', 'param_scheduler.1.end']),
    ([40, 300], 800, ['epoch 300', 'at 800', 'param_scheduler.1.end']),
    ([40, None], 2, ['epoch 40', 'at 2', 'param_scheduler.0.end']),
    ([40, 300], 300, []), ([5, None], 6, [])])
def test_a_schedule_that_does_not_end_with_the_run_is_named(ends, length, words):
    schedule = [dict(type=kind, **({} if end is None else dict(end=end)))
                for kind, end in zip(('LinearLR', 'CosineAnnealingLR'), ends)]
    note = schedule_note(Config(dict(
        param_scheduler=schedule, train_cfg=dict(max_epochs=length))))
    assert bool(note) == bool(words) and all(word in note for word in words)


# ------------------------------------------------------- training and predicting

@pytest.fixture(scope='module')
def trained(folder):
    """Checkpoints of the page's configs, fine-tuned once each."""
    done = {}

    def train(name):
        pytest.importorskip(TOOLBOX[name])
        if name not in done:
            (folder / 'small').mkdir(exist_ok=True)
            config = folder / f'small/{name}.py'
            config.write_text(page_config(name) + f'image_size = {SIDE}\n')
            output = run(folder, '-m', 'mixedae_mm', 'train', str(config),
                         '--cfg-options', *LOADERS, *SMALL[name])
            assert 'loaded 7' in output and re.search(f'{METRIC[name]}: ', output)
            done[name] = last_checkpoint(folder / 'work_dirs' / name)
        return done[name]

    return train


@pytest.mark.slow
@pytest.mark.parametrize('name', TOOLBOX)
def test_from_the_page_to_predictions(trained, folder, tmp_path, name):
    """The checkpoint alone suffices, and says what the toolbox itself says."""
    checkpoint = str(shutil.copy(trained(name), tmp_path / 'tuned.pth'))
    config = trained(name).with_name(f'{name}.py')
    cfg = Config.fromfile(config)
    image = images.noise((70, 50))
    photo = str(images.save(tmp_path / 'photos/deep/a.png', image))
    output = run(tmp_path, '-m', 'mixedae_mm', 'predict', 'photos', '--checkpoint',
                 checkpoint, '--threshold', '0')
    assert 'photos/deep/a.png: ' in output
    out = tmp_path / 'predictions/deep'
    result = json.loads((out / 'a.png.json').read_text())
    drawn = np.asarray(Image.open(out / 'a.png.png').convert('RGB'))
    assert drawn.shape == image.shape and (drawn != image).any()
    if name == 'classify':
        assert set(result['scores']) == set(SHAPES)
        assert sum(result['scores'].values()) == pytest.approx(1, abs=1e-3)
        assert result['score'] == result['scores'][result['class']]
        loaded = load_model(config, checkpoint)  # as the tools that look at it do
        assert loaded.data_preprocessor.mean.flatten().tolist() == pytest.approx(
            cfg.data_preprocessor.mean)
        from mmpretrain import ImageClassificationInferencer
        theirs, = ImageClassificationInferencer(cfg, checkpoint)(photo)
        assert result['score'] == pytest.approx(theirs['pred_score'], abs=1e-4)
    elif name == 'segment':
        labels = np.asarray(Image.open(out / 'a.png_labels.png'))
        assert labels.shape == image.shape[:2]
        from mmseg.apis import inference_model, init_model
        cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
        theirs = inference_model(init_model(cfg, checkpoint, 'cpu'), photo)
        assert (labels == theirs.pred_sem_seg.data.squeeze().numpy()).all()
        for i, share in enumerate(result['shares'].values()):
            assert share == pytest.approx((labels == i).mean(), abs=1e-4)
    else:
        entry = result['objects'][0]
        assert entry['class'] in SHAPES and len(entry['box']) == 4
        assert entry['mask']['size'] == [50, 70]
        from mmdet.apis import DetInferencer
        theirs = DetInferencer(cfg, checkpoint, show_progress=False)(photo)
        theirs = theirs['predictions'][0]
        assert [SHAPES[label] for label in theirs['labels']] == [
            entry['class'] for entry in result['objects']]
        assert entry['box'] == pytest.approx(theirs['bboxes'][0], abs=0.06)
        assert entry['mask'] == theirs['masks'][0]


@pytest.mark.slow
def test_predictions_of_images_turned_by_exif_and_of_broken_ones(trained, tmp_path):
    images.save(tmp_path / 'photos/b.jpg', (70, 50), orientation=6)
    (tmp_path / 'photos/a.jpg').write_bytes(b'no image')
    for name in ('segment', 'classify'):
        results = predict(tmp_path / 'photos', trained(name), tmp_path / name)
        assert [Path(result['image']).name for result in results] == ['b.jpg']
        with Image.open(tmp_path / name / 'b.jpg.png') as drawn:
            assert drawn.size == (50, 70)
    images.save(tmp_path / 'photos/c.png', (70, 1))  # no pooled features
    results = predict(tmp_path / 'photos', trained('segment'), tmp_path / 'flat')
    assert [Path(result['image']).name for result in results] == ['b.jpg']
    again = predict(tmp_path, trained('segment'), tmp_path / 'flat')
    assert 'flat' not in {Path(result['image']).parent.name for result in again}
    with pytest.raises(ConfigurationError, match='another folder than that of the im'):
        predict(tmp_path, trained('segment'), tmp_path)
    for name, facts in ('a.jpg', 'a.jpg.*formats'), ('c.png', '70 x 1 .*the model'):
        with pytest.raises(ConfigurationError, match=facts):
            predict(tmp_path / 'photos' / name, trained('segment'), tmp_path / 'out')


@pytest.mark.slow
def test_a_file_that_the_disk_refuses_is_left_out(trained, tmp_path, monkeypatch,
                                                  warned):
    for name in 'ab':
        images.save(tmp_path / f'photos/{name}.png', (70, 70))

    def read(path):
        if path.endswith('a.png'):
            raise OSError(5, 'Input/output error')
        return Path(path).read_bytes()

    monkeypatch.setattr('mixedae_mm.apis.predict.read_file', read)
    result, = predict(tmp_path / 'photos', trained('classify'), tmp_path)
    assert result['image'].endswith('b.png')
    assert any('a.png cannot be read' in sentence for sentence in warned)


@pytest.mark.slow
def test_predicting_from_python(trained, tmp_path, monkeypatch, capsys):
    (tmp_path / 'work_dirs/classify').mkdir(parents=True)
    shutil.copy(trained('classify'), tmp_path / 'work_dirs/classify/epoch_100.pth')
    images.save(tmp_path / 'photos/x.png', (70, 70))
    monkeypatch.chdir(tmp_path)
    code = re.search(r'<!-- snippet: predict -->\n```python\n(.*?)```', PAGE, re.S)[1]
    exec(code, {})
    assert 'photos/x.png ' in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match='neither an image file nor a'):
        predict('y', 'work_dirs/classify/epoch_100.pth')


def test_predictions_need_a_fine_tuned_checkpoint(here):
    with pytest.raises(ConfigurationError, match='has no test_dataloader'):
        predict('birds', 'work_dirs/mixedae_vitb_folder/epoch_300.pth')
    with pytest.raises(ConfigurationError, match='classify.py must be a folder'):
        predict('birds', 'a.pth', 'classify.py')
    with pytest.raises(ConfigurationError, match=r'threshold is nan, .*\[0, 1\]'):
        predict('birds', 'a.pth', threshold=float('nan'))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['segment', 'detect'])
def test_the_browser_draws_masks_and_boxes(here, name):
    pytest.importorskip(TOOLBOX[name])
    from mixedae_mm.analysis.browsing import browse
    cfg = Config.fromfile(f'{name}.py')
    # As they are, so that they can be compared.
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [*pipeline[:2], pipeline[-1]]
    figure, = browse(cfg, 'train', [2])
    drawn = figure.axes[0].images[0].get_array()
    plain = np.asarray(Image.open('leaves/images/train/2.png' if name == 'segment'
                                  else 'parts/train/2.jpg'))
    assert drawn.shape == plain.shape
    inside = np.abs(drawn[30, 30].astype(int) - plain[30, 30]).sum()
    outside = np.abs(drawn[2, 2].astype(int) - plain[2, 2]).sum()
    assert inside > 20 and (name == 'segment' or outside < 10)


def test_the_encoder_comes_through_torch_hub(here):
    text = (ROOT / 'docs/openmmlab.md').read_text()
    code = re.search(r'<!-- snippet: hub -->\n```python\n(.*?)```', text, re.S)[1]
    assert "torch.hub.load('.', 'mixedae', source='local'" in code
    encoder = torch.hub.load(str(ROOT), 'mixedae', source='local', heads=2,
                             checkpoint='work_dirs/mixedae_vitb_folder/epoch_300.pth')
    assert encoder.encode('birds/val').patches.shape == (3, 64, 24)
