"""Missing data is named before a runner is built."""
import pytest
from mmengine.config import Config

from mixedae_mm.launch.checks import check_data_paths
from mixedae_mm.utils.errors import ConfigurationError


def config(**dataset):
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def coco(root):
    return dict(
        type='CocoDataset', data_root=str(root), ann_file='annotations/a.json',
        data_prefix=dict(img='train2017/'))


def missing(cfg, *loaders):
    with pytest.raises(ConfigurationError) as error:
        check_data_paths(cfg, loaders or ['train_dataloader'])
    return str(error.value)


def test_root_then_annotations_then_images(tmp_path):
    root = tmp_path / 'coco'
    cfg = config(**coco(root))
    assert missing(cfg).startswith(
        f'train_dataloader needs {root}, which does not exist;')
    (root / 'annotations').mkdir(parents=True)
    assert f'needs {root}/annotations/a.json,' in missing(cfg)
    (root / 'annotations/a.json').touch()
    assert f'needs {root}/train2017/,' in missing(cfg)
    (root / 'train2017').mkdir()
    check_data_paths(cfg, ['train_dataloader', 'val_dataloader'])


def test_a_folder_that_is_called_as_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    assert 'needs images/images,' in missing(
        config(type='A', data_root='images', data_prefix='images'))


def test_wrapped_data_sets(tmp_path):
    inner = coco(tmp_path / 'none')
    for wrapped in (dict(type='RepeatDataset', dataset=inner),
                    dict(type='ConcatDataset', datasets=[inner])):
        assert 'none' in missing(config(**wrapped))


def test_what_is_not_on_this_disk_is_left_alone(tmp_path):
    check_data_paths(
        config(type='A', data_root='s3://bucket', ann_file='a'),
        ['train_dataloader'])
    fetching = dict(type='CIFAR10', data_root=str(tmp_path / 'none'))
    check_data_paths(config(**fetching), ['train_dataloader'])
    assert 'none' in missing(config(**fetching, download=False))
    # Only what will be used has to be there.
    check_data_paths(config(**coco('none')), ['test_dataloader'])
    check_data_paths(Config(dict()), ['train_dataloader'])


def test_absolute_annotations(tmp_path):
    (tmp_path / 'root').mkdir()
    cfg = config(
        type='A', data_root=str(tmp_path / 'root'),
        ann_file=str(tmp_path / 'elsewhere.json'))
    assert f'needs {tmp_path}/elsewhere.json,' in missing(cfg)
