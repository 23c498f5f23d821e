"""Transfer of images with 1, 4 and 13 channels: tune, evaluate, predict, refuse."""
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from own_data import (LOADERS, METRIC, SIDE, SMALL, TOOLBOX, last_checkpoint, run,
                      write_checkpoint, write_sets)
from PIL import Image

from mixedae_mm import predict
from mixedae_mm.datasets.checks import check_samples
from mixedae_mm.launch.train import main as train
from mixedae_mm.utils.errors import ConfigurationError

RECIPE = dict(classify='classification', segment='segmentation', detect='detection')
CLASSIFY = [*SMALL['classify'], 'model.backbone.img_size=64', *(
    f'{part}_dataloader.dataset.pipeline.1.size=64'
    for part in ('train', 'val', 'test'))]


def image(channels, i, dtype='uint16'):
    """A bright rectangle, at other heights in every channel."""
    pixels = np.random.default_rng(i).integers(900, 1100, (SIDE, SIDE, channels))
    pixels[10:45 + i, 10:50] += 50 * np.arange(1, 1 + channels)
    return (pixels // 8 if dtype == 'uint8' else pixels).astype(dtype)


def write(path, pixels):
    tifffile.imwrite(path, np.moveaxis(pixels, -1, -3), photometric='minisblack')


def write_all(root, channels):
    """The data sets, and a pre-training of images with so many channels."""
    write_sets(root, lambda path, i, _: write(path, image(channels, i)), '.tif', '.tif')
    mean, std = statistics(channels)
    write_checkpoint(
        root / 'bands.pth', channels, model=dict(
            data_preprocessor=dict(mean=mean, std=std)),
        train_dataloader=dict(dataset=dict(pipeline=[
            dict(type='LoadChannels', channels=channels)])))
    write_configs(root)


def statistics(channels):
    every = np.stack([image(channels, i) for i in range(6)]).reshape(-1, channels)
    return every.mean(0).tolist(), every.std(0).tolist()


def preprocessor_of(cfg):
    return cfg.get('data_preprocessor') or cfg.model.data_preprocessor


def write_configs(root, more=''):
    for name, data in (('classify', 'birds'), ('segment', 'leaves'),
                       ('detect', 'parts')):
        classes = ''
        if name == 'segment':
            classes = "classes = ('background', 'leaf', 'stem')\n"
        (root / f'{name}.py').write_text(
            f"_base_ = 'mixedae_mm::own_labels/{RECIPE[name]}.py'\n"
            f"data_root = '{data}'\npretrained = 'bands.pth'\n{classes}{more}")


@pytest.fixture(scope='module', params=[1, 4, 13])
def channels(request):
    return request.param


@pytest.fixture(scope='module')
def folder(channels, tmp_path_factory):
    root = tmp_path_factory.mktemp('own_channels')
    write_all(root, channels)
    return root


@pytest.mark.parametrize('name', RECIPE)
def test_channels_and_statistics_are_those_of_the_pretraining(
        folder, channels, name, monkeypatch):
    monkeypatch.chdir(folder)
    cfg = Config.fromfile(f'{name}.py')
    assert cfg.model.backbone.in_channels == channels
    preprocessor = preprocessor_of(cfg)
    for key, numbers in zip(('mean', 'std'), statistics(channels)):
        assert np.ravel(preprocessor[key]) == pytest.approx(numbers)
    assert not preprocessor.get('to_rgb') and not preprocessor.get('bgr_to_rgb')
    for part in ('train', 'val', 'test'):
        pipeline = cfg[f'{part}_dataloader'].dataset.pipeline
        assert (pipeline[0].type, pipeline[0].channels) == ('LoadChannels', channels)
    used = {key: cfg[key] for key in ('model', 'train_dataloader', 'val_dataloader',
                                      'test_dataloader', 'tta_pipeline') if key in cfg}
    assert not re.search('LoadImageFromFile|PhotoMetric|RandAug|Erasing',
                         Config(used).pretty_text)


@pytest.mark.parametrize('name', RECIPE)
def test_the_file_of_channel_statistics_is_inherited(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path('statistics.py').write_text(
        'channels = 5\nmean = [900., 901, 902, 903, 904]\nstd = [9., 8, 7, 6, 5]\n')
    Path('mine.py').write_text(
        f"_base_ = ['mixedae_mm::own_labels/{RECIPE[name]}.py', 'statistics.py']\n"
        "data_root = 'nowhere'\npretrained = None\nimage_size = 64\n")
    cfg = Config.fromfile('mine.py')
    assert np.ravel(preprocessor_of(cfg).std).tolist() == [9, 8, 7, 6, 5]
    assert cfg.model.backbone.in_channels == 5
    first, second, *_ = cfg.train_dataloader.dataset.pipeline
    assert first.channels == 5 and not {'channels', 'mean', 'std'} & set(cfg)
    if name == 'classify':
        assert second.size == 64


@pytest.mark.slow
@pytest.mark.parametrize('name', RECIPE)
def test_from_a_checkpoint_to_predictions(folder, name, tmp_path):
    """Fine-tune and evaluate; then the checkpoint alone suffices to predict."""
    pytest.importorskip(TOOLBOX[name])
    output = run(folder, '-m', 'mixedae_mm', 'train', f'{name}.py', '--cfg-options',
                 *LOADERS, *(CLASSIFY if name == 'classify' else SMALL[name]))
    assert 'loaded 7' in output and re.search(f'{METRIC[name]}: ', output)
    assert 'of another range' not in output
    work_dir = folder / 'work_dirs' / name
    last = str(last_checkpoint(work_dir))
    source = folder / 'birds/val'
    results = predict(source, last, tmp_path / 'out', threshold=0)
    assert [Path(result['image']).stem for result in results] == ['0', '1', '2']
    for result in results:
        name_there = Path(result['image']).relative_to(source)
        with Image.open(f'{tmp_path}/out/{name_there}.png') as file:
            drawn = np.asarray(file.convert('RGB'))
        assert drawn.shape == (SIDE, SIDE, 3) and len(np.unique(drawn)) > 20
    test = run(folder, '-m', 'mixedae_mm', 'test', str(work_dir / f'{name}.py'), last,
               '--cfg-options', 'test_dataloader.num_workers=0')
    assert re.search(f'{METRIC[name]}: ', test)


# ------------------------------------------------------------------ bad input


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Data of four channels, a checkpoint and the three configs."""
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path, 4)
    return tmp_path


@pytest.mark.parametrize('given, facts', [
    ('channels = 13', r'mean .* is None, but must be 13 numbers.*channel_statistics'),
    ('mean = [1.] * 3\nstd = [1.] * 4', 'mean .* must be 4 numbers'),
    ('mean = [1.] * 4', 'one of mean and std, but must have both'),
    ('mean = [1.] * 4\nstd = [1., 1., 1., 0.]', 'std .* is 0.0, .*above 0'),
    ('channels = 0', 'channels .* is 0, but must')])
def test_statistics_that_do_not_fit_are_refused(here, given, facts):
    write_configs(here, given)
    with pytest.raises(ConfigurationError, match=facts):
        Config.fromfile('classify.py')


@pytest.mark.parametrize('name', RECIPE)
@pytest.mark.parametrize('tuned', [
    dict(data_preprocessor=dict(mean=[9.] * 4, std=[2.] * 4)),  # classification
    dict(model=dict(data_preprocessor=dict(mean=[[9.] * 4], std=[[2.] * 4])))])
def test_a_fine_tuned_model_is_a_start_too(here, name, tuned):
    content = torch.load('bands.pth')
    config = Config.fromstring(content['meta']['cfg'], '.py')
    config.model.pop('data_preprocessor')
    config.merge_from_dict(tuned)
    content['meta']['cfg'] = config.pretty_text
    torch.save(content, 'bands.pth')
    preprocessor = preprocessor_of(Config.fromfile(f'{name}.py'))
    assert np.ravel(preprocessor.mean).tolist() == [9.] * 4
    assert np.ravel(preprocessor.std).tolist() == [2.] * 4


def test_steps_of_a_pipeline_may_change_the_channels(here):
    def grey(cfg):
        cfg.model.backbone.in_channels = 1
        cfg.data_preprocessor.update(mean=[1000.], std=[50.])
        cfg.train_dataloader.dataset.pipeline.insert(1, dict(
            type='torchvision/Lambda', lambd=lambda image: image.mean(0, keepdim=True)))
    checked('classify', grey, channels=1)


@pytest.mark.parametrize('name', RECIPE)
def test_three_bands_are_not_rgb(here, name):
    write_all(here, 3)
    cfg = Config.fromfile(f'{name}.py')
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'LoadChannels'
    assert preprocessor_of(cfg).mean == pytest.approx(statistics(3)[0])


def with_nan():
    pixels = image(4, 0, 'float32')
    pixels[5, 7, 2] = np.nan
    return pixels


BAD = dict(
    channels=(lambda: image(3, 0), r'\(3, 64, 64\), but 4 channels are needed'),
    shape=(lambda: np.zeros((2, 64, 64, 4), 'uint8'), r'\(2, 4, 64, 64\), but 4'),
    type=(lambda: image(4, 0, 'int32'), 'are int32, allowed are uint8, uint16'),
    nan=(with_nan, 'channel 2, row 5, column 7 is nan, all must be finite'))


def checked(name, change=None, channels=4):
    """Load samples of a config's training as the train command does."""
    pytest.importorskip(TOOLBOX[name])
    cfg = Config.fromfile(f'{name}.py')
    if change:
        change(cfg)
    init_default_scope(TOOLBOX[name])
    preprocessor = preprocessor_of(cfg).copy()
    preprocessor.setdefault('type', 'ClsDataPreprocessor')
    model = SimpleNamespace(
        backbone=MODELS.build(dict(cfg.model.backbone, init_cfg=None)),
        data_preprocessor=MODELS.build(preprocessor))
    assert model.data_preprocessor.mean.shape == (channels, 1, 1)
    check_samples(DATASETS.build(cfg.train_dataloader.dataset), 'train_dataloader',
                  model=model)


@pytest.mark.parametrize('kind', BAD)
@pytest.mark.parametrize('name, file', [
    ('classify', 'birds/train/lid/0.tif'), ('segment', 'leaves/images/train/0.tif'),
    ('detect', 'parts/train/0.tif')])
def test_an_image_that_cannot_be_used_is_named(here, name, file, kind):
    make, facts = BAD[kind]
    write(file, make())
    with pytest.raises(ConfigurationError, match=f'{file}.*{facts}'):
        checked(name)


@pytest.mark.parametrize('name', RECIPE)
def test_values_of_another_range_are_warned_of_once(here, name, warned):
    checked(name)
    assert not warned
    write_configs(here, 'mean = [120.] * 4\nstd = [1.] * 4\n')
    checked(name)
    message, = warned
    assert re.search(r'0.tif has values from 9\d\d to 1\d\d\d, but mean '
                     r'\(120 to 120\) and std \(1 to 1\)', message)


@pytest.mark.parametrize('name', RECIPE)
def test_a_pipeline_for_another_backbone_is_refused(here, name):
    def other(cfg):
        cfg.model.backbone.in_channels = 13
    with pytest.raises(ConfigurationError, match='0.tif with 4 channels, but the '
                       'backbone takes 13'):
        checked(name, other)


def test_the_command_says_it_in_one_sentence(here, capsys):
    make, facts = BAD['nan']
    write(here / 'birds/train/lid/0.tif', make())
    assert train(['classify.py', '--cfg-options', *LOADERS]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(f'error: .*birds/train/lid/0.tif.*{facts}', line)
