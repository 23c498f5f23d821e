"""Missing data is named before a runner is built."""
import pytest
from mmengine.config import Config

from mixedae_mm.launch.checks import check_data_paths
from mixedae_mm.utils.errors import ConfigurationError

COCO = dict(type='CocoDataset', data_root='coco', ann_file='annotations/a.json',
            data_prefix=dict(img='train2017/'))
FETCHING = dict(type='CIFAR10', data_root='none')


@pytest.mark.parametrize('dataset, there, missing', [
    # The root, then annotations, then images.
    (COCO, [], 'coco'),
    (COCO, ['coco/annotations/'], 'coco/annotations/a.json'),
    (COCO, ['coco/annotations/a.json'], 'coco/train2017/'),
    (COCO, ['coco/annotations/a.json', 'coco/train2017/'], None),
    (dict(type='RepeatDataset', dataset=COCO), [], 'coco'),
    (dict(type='ConcatDataset', datasets=[COCO]), [], 'coco'),
    # A folder that is called as the root.
    (dict(type='A', data_root='images', data_prefix='images'), ['images/'],
     'images/images'),
    (dict(type='A', data_root='images', ann_file='/no/where.json'), ['images/'],
     '/no/where.json'),
    # What is not on this disk.
    (dict(type='A', data_root='s3://bucket', ann_file='a'), [], None),
    (FETCHING, [], None), (dict(FETCHING, download=False), [], 'none')])
def test_missing_data(dataset, there, missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in there:
        path = tmp_path / name
        (path if name.endswith('/') else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith('/'):
            path.touch()
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    # Only what will be used has to be there.
    check_data_paths(cfg, ['val_dataloader', 'test_dataloader'])
    if missing is None:
        check_data_paths(cfg, ['train_dataloader'])
        return
    with pytest.raises(ConfigurationError) as error:
        check_data_paths(cfg, ['train_dataloader'])
    assert str(error.value).startswith(
        f'train_dataloader needs {missing}, which does not exist;')
