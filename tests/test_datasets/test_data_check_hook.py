"""The checks as a run meets them: before the first step, whatever the config says."""
import pytest
import small_vit
from images import save
from mmengine.config import Config
from toy_projects import CLASSIFICATION

from mixedae_mm.launch import test as test_command
from mixedae_mm.launch import train as train_command

PIPELINE = [
    dict(type='LoadImageTensor'), dict(type='TensorRandomResizedCrop', size=32),
    dict(type='PackInputs', meta_keys=('img_path', ))]


def classification(**changes):
    cfg = Config.fromstring(CLASSIFICATION, '.py')
    cfg.work_dir, cfg.log_level = 'work', 'ERROR'
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 3
    for name, prefix in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        cfg[f'{name}_dataloader'].update(num_workers=0, dataset=dict(
            type='CustomDataset', data_root='.', data_prefix=prefix, pipeline=PIPELINE))
    cfg.merge_from_dict(changes)
    return cfg


def pretraining(**changes):
    cfg = classification()
    cfg.model, cfg.data_preprocessor = small_vit.config(), None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.train_dataloader.drop_last = True
    cfg.train_dataloader.dataset = dict(
        type='UnlabelledImageFolder', data_root='train', pipeline=PIPELINE)
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for split in ('train', 'val'):
        for name in ('ant', 'bee', 'cat'):
            for index in range(2):
                save(tmp_path / split / name / f'{index}.jpg', (20, 20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refuse(capsys):
    """Run a command, which must refuse the config with a sentence of these facts."""
    def refuse(command, cfg, *facts, options=()):
        cfg.dump('config.py')
        capsys.readouterr()
        assert command.main(['config.py', *options]) == 2
        said = capsys.readouterr().err
        assert all(fact in said for fact in facts), said
    return refuse


def run(command, cfg, *options):
    cfg.dump('config.py')
    assert command.main(['config.py', *options]) == 0


SCHEDULE = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)


@pytest.mark.parametrize('changes', [
    dict(), dict(param_scheduler=[SCHEDULE]),
    dict(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=2))])
def test_fewer_images_than_a_batch(folder, refuse, changes):
    """Neither a run of no step nor an error of mmengine's schedules."""
    cfg = pretraining(**{'train_dataloader.batch_size': 8}, **changes)
    refuse(train_command, cfg, '6 images', 'batch_size=8', 'at most 4')
    assert not list((folder / 'work').glob('*.pth'))


def test_other_classes_to_validate_or_test_on(folder, refuse):
    run(train_command, classification())
    checkpoint = folder / 'work/epoch_1.pth'
    run(test_command, classification(), str(checkpoint))
    (folder / 'val/cat').rename(folder / 'val/aardvark')
    refuse(test_command, classification(), "'ant'", 'checkpoint', 'test_dataloader',
           options=[str(checkpoint)])
    (folder / 'train/cat').rename(folder / 'train/aardvark')
    refuse(train_command, classification(**{'train_cfg.max_epochs': 2}), "'ant'",
           'checkpoint', 'train_dataloader', options=['--resume'])
    (folder / 'train/aardvark').rename(folder / 'train/cat')
    checkpoint.unlink()
    refuse(train_command, classification(), "'ant'", "'aardvark'")
    assert not checkpoint.exists()


@pytest.mark.parametrize('command, name, options', [
    (train_command, 'val', []), (test_command, 'test', [__file__])])
@pytest.mark.parametrize('changes, facts', [
    # The last two of six would be left out.
    ({'dataloader.drop_last': True}, ['dataloader.drop_last', 'last 2 of 6']),
    ({'evaluator.topk': (1, 5)}, ['evaluator', 'top-5', '3 classes'])])
def test_evaluations_that_cannot_be(refuse, command, name, options, changes, facts):
    (key, value), = changes.items()
    refuse(command, classification(**{f'{name}_{key}': value}), f'{name}_{facts[0]}',
           *facts[1:], options=options)


@pytest.mark.parametrize('labels, facts', [
    (None, ['no file that ends in', '.jpeg']), ('', ['no samples', 'labels.txt'])])
def test_no_samples(folder, refuse, labels, facts):
    """An empty folder and an empty file, where mmpretrain fails to list them."""
    (folder / 'empty').mkdir()
    cfg = classification(**{'train_dataloader.dataset.data_prefix': 'empty'})
    if labels is not None:
        (folder / 'labels.txt').write_text(labels)
        cfg.train_dataloader.dataset.ann_file = 'labels.txt'
    refuse(train_command, cfg, 'train_dataloader', *facts)


def test_images_that_are_none(folder, refuse):
    (folder / 'val/bee/1.jpg').write_text('not an image')
    refuse(train_command, classification(), 'val_dataloader', 'val/bee/1.jpg')
    assert not list((folder / 'work').glob('*.pth'))
