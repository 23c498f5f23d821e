"""Labels of one's own: from the page's configs to predictions, in every toolbox."""
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import preloaded
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image, ImageDraw

from mixedae_mm import config_path, predict
from mixedae_mm.analysis.loading import load_model
from mixedae_mm.config.own_labels import KEYS, usual_suffix
from mixedae_mm.config.tree import resolve
from mixedae_mm.launch.checks import schedule_note
from mixedae_mm.utils.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/your_own_labels.md').read_text()
ARCH = dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=24)
SHAPES = ('lid', 'plate', 'tile')  # classes that no public data set has
SIDE = 64


def page_config(name):
    """A config of the page, as readers copy it."""
    return re.search(rf'```python\n(# {name}\.py\n.*?)```', PAGE, re.S)[1]


def saved(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three data sets in the page's layouts, and the checkpoint that it names."""
    root = tmp_path_factory.mktemp('own')
    for split, number in (('train', 6), ('val', 3)):
        coco = dict(images=[], annotations=[], categories=[
            dict(id=7 + i, name=name) for i, name in enumerate(SHAPES)])
        for i in range(number):
            image = Image.new('RGB', (SIDE, SIDE), (30 * i, 90, 120))
            mask = Image.new('L', (SIDE, SIDE))
            box = 10, 10 + i, 50, 45 + i
            for canvas, fill in ((image, (200, 40 * i, 20)), (mask, i % 3)):
                ImageDraw.Draw(canvas).rectangle(box, fill=fill)
            saved(root / f'birds/{split}/{SHAPES[i % 3]}/{i}.png', image)
            saved(root / f'leaves/images/{split}/{i}.png', image)
            saved(root / f'leaves/masks/{split}/{i}.png', mask)
            saved(root / f'parts/{split}/{i}.jpg', image)
            left, top, right, bottom = box
            width, height = right - left, bottom - top
            coco['images'].append(
                dict(id=i, file_name=f'{i}.jpg', width=SIDE, height=SIDE))
            coco['annotations'].append(dict(
                id=1 + i, image_id=i, category_id=7 + i % 3, iscrowd=0,
                bbox=[left, top, width, height], area=width * height,
                segmentation=[[left, top, right, top, right, bottom, left, bottom]]))
        file = root / f'parts/annotations/{split}.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(coco))
    backbone = dict(type='MixedAEViT', arch=ARCH, img_size=SIDE, patch_size=8)
    vit = MODELS.build(dict(backbone, num_sources=4))
    weights = root / 'work_dirs/mixedae_vitb_folder/epoch_300.pth'
    weights.parent.mkdir(parents=True)
    text = Config(dict(model=dict(backbone=backbone))).pretty_text
    torch.save(dict(
        state_dict={f'backbone.{k}': v for k, v in vit.state_dict().items()},
        meta=dict(cfg=text)), weights)
    for name in ('classify', 'segment', 'detect'):
        (root / f'{name}.py').write_text(page_config(name))
    return root


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize('name', ['classify', 'segment', 'detect'])
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


@pytest.mark.parametrize('name, size, facts', [
    ('segment', 100, 'image_size .* 100, .*multiple of the patch size, 8'),
    ('classify', 0, 'image_size .* 0, '), ('classify', True, 'image_size .* True, '),
    ('detect', 9, 'image_size .* 9, .*16 or more'), ('detect', '"96"', "'96'")])
def test_sizes_that_cannot_be(here, name, size, facts):
    Path('sized.py').write_text(page_config(name) + f'image_size = {size}\n')
    with pytest.raises(ConfigurationError, match=facts):
        Config.fromfile('sized.py')


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


@pytest.mark.parametrize('name, line, facts', [
    ('classify', 'data_root = None', 'data_root .* None, but must be a path'),
    ('detect', 'data_root = 5', 'data_root .* 5, but must be a path'),
    ('classify', 'pretrained = 1', 'pretrained .* 1, but must be a path, or None'),
    ('detect', 'pretrained = False', 'pretrained .* False, but must be a path, or'),
    ('segment', "reduce_zero_label = 'no'", "reduce_zero_label .*'no', .*True or"),
    ('segment', 'classes = 2', 'classes .* 2, .*tuple of different names'),
    ('classify', 'classes = (1, 2)', r'classes .*\(1, 2\), .*different names'),
    ('segment', "classes = ('a', 'a')", r"\('a', 'a'\), .*different names")])
def test_values_of_another_type_are_refused(here, name, line, facts):
    Path('typed.py').write_text(page_config(name) + line + '\n')
    with pytest.raises(ConfigurationError, match=facts):
        Config.fromfile('typed.py')


def test_a_start_from_random_weights(here):
    Path('scratch.py').write_text(page_config('classify') + 'pretrained = None\n')
    backbone = Config.fromfile('scratch.py').model.backbone
    assert backbone.init_cfg is None and backbone.arch == 'base'


@pytest.mark.parametrize('name', ['classify', 'segment', 'detect'])
def test_one_class_without_a_comma_is_no_tuple_of_letters(here, name):
    Path('letters.py').write_text(page_config(name) + "classes = ('lid')\n")
    with pytest.raises(ConfigurationError, match=r"'lid'.*\('lid', \)"):
        Config.fromfile('letters.py')


@pytest.mark.parametrize('name', ['classify', 'segment'])
def test_one_class_has_nothing_to_be_told_from(here, name):
    Path('one.py').write_text(page_config(name) + "classes = ('lid', )\n")
    with pytest.raises(ConfigurationError, match="one class 'lid'.*at least two"):
        Config.fromfile('one.py')


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

LOADERS = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
           'val_dataloader.persistent_workers=False',
           'train_dataloader.persistent_workers=False']
SMALL = {  # what makes it quick, beside the size of the images
    'classify': ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=6'],
    'segment': [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=2',
        'model.decode_head.channels=8', 'model.auxiliary_head.channels=8'],
    'detect': [
        'train_cfg.max_epochs=1',
        'model.train_cfg.rpn_proposal.max_per_img=16',
        'model.test_cfg.rpn.max_per_img=8', 'model.test_cfg.rcnn.score_thr=0.0',
        'model.roi_head.mask_head.num_convs=1', *(
            f'model.{key}' for i in range(3) for key in (
                f'train_cfg.rcnn.{i}.sampler.num=8',
                f'roi_head.bbox_head.{i}.num_shared_convs=1',
                f'roi_head.bbox_head.{i}.conv_out_channels=16',
                f'roi_head.bbox_head.{i}.fc_out_channels=16'))],
}
TOOLBOX = dict(classify='mmpretrain', segment='mmseg', detect='mmdet')
METRIC = dict(classify='accuracy/top1', segment='mIoU', detect='coco/segm_mAP')


def run(folder, *command):
    done = preloaded.run([sys.executable, *command], cwd=folder, env=dict(
        os.environ, PYTHONPATH=str(ROOT)))
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    return output


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
            work_dir = folder / 'work_dirs' / name
            last = Path((work_dir / 'last_checkpoint').read_text()).name
            done[name] = work_dir / last
        return done[name]

    return train


@pytest.mark.slow
@pytest.mark.parametrize('name', TOOLBOX)
def test_from_the_page_to_predictions(trained, folder, tmp_path, name):
    """The checkpoint alone suffices, and says what the toolbox itself says."""
    checkpoint = str(shutil.copy(trained(name), tmp_path / 'tuned.pth'))
    config = trained(name).with_name(f'{name}.py')
    cfg = Config.fromfile(config)
    (tmp_path / 'photos/deep').mkdir(parents=True)
    image = np.random.randint(0, 256, (50, 70, 3), dtype=np.uint8)
    photo = str(tmp_path / 'photos/deep/a.png')
    Image.fromarray(image).save(photo)
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
    (tmp_path / 'photos').mkdir()
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.new('RGB', (70, 50), (9, 99, 199)).save(
        tmp_path / 'photos/b.jpg', exif=exif)
    (tmp_path / 'photos/a.jpg').write_bytes(b'no image')
    for name in ('segment', 'classify'):
        results = predict(tmp_path / 'photos', trained(name), tmp_path / name)
        assert [Path(result['image']).name for result in results] == ['b.jpg']
        with Image.open(tmp_path / name / 'b.jpg.png') as drawn:
            assert drawn.size == (50, 70)
    Image.new('RGB', (70, 1)).save(tmp_path / 'photos/c.png')  # no pooled features
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
        saved(tmp_path / f'photos/{name}.png', Image.new('RGB', (70, 70)))

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
    saved(tmp_path / 'photos/x.png', Image.new('RGB', (70, 70), (9, 99, 199)))
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


def test_the_page_of_costs_shows_what_the_command_prints():
    from benchmarks import cost
    page = (ROOT / 'docs/recipes.md').read_text()
    assert cost.plan(ROOT / 'docs/measurements') in page
