"""The checks as a run meets them: before the first step, whatever the config says."""
import pytest
from mmengine.config import Config
from PIL import Image

from mixedae_mm.launch import test as test_command
from mixedae_mm.launch import train as train_command

VIT = dict(
    type='MixedAEViT', img_size=16, patch_size=4,
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16))
PIPELINE = [
    dict(type='LoadImageTensor'), dict(type='TensorRandomResizedCrop', size=16),
    dict(type='PackInputs', meta_keys=('img_path', ))
]


def loader(folder, prefix, **kwargs):
    kind = 'CustomDataset' if prefix else 'UnlabelledImageFolder'
    return dict(
        batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type=kind, data_root=str(folder), data_prefix=prefix,
                     pipeline=PIPELINE), **kwargs)


def common(folder):
    return dict(
        default_scope='mmpretrain', work_dir=str(folder / 'work'), log_level='ERROR',
        custom_imports=dict(imports=['mixedae_mm']), randomness=dict(seed=0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), param_scheduler=[],
        train_cfg=dict(by_epoch=True, max_epochs=1))


def pretraining(folder):
    return dict(
        model=dict(
            type='MixedAE', backbone=VIT, neck=dict(
                type='MixedAEDecoder', decoder_embed_dim=16, decoder_depth=1,
                decoder_num_heads=2), head=dict(type='MixedAEPretrainHead')),
        train_dataloader=loader(folder / 'train', '', drop_last=True),
        **common(folder))


def classification(folder):
    val = loader(folder, 'val')
    evaluator = dict(type='Accuracy', topk=(1, ))
    return dict(
        model=dict(
            type='ImageClassifier', backbone=dict(VIT, out_type='avg_featmap'),
            head=dict(type='LinearClsHead', in_channels=16, num_classes=3),
            data_preprocessor=dict(num_classes=3)),
        train_dataloader=loader(folder, 'train'), val_dataloader=val, val_cfg=dict(),
        val_evaluator=evaluator, test_dataloader=val, test_cfg=dict(),
        test_evaluator=evaluator, **common(folder))


def write_images(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(2):
            Image.new('RGB', (20, 20), (9 * index, 0, 0)).save(
                folder / name / f'{index}.jpg')


@pytest.fixture
def folder(tmp_path):
    for split in ('train', 'val'):
        write_images(tmp_path / split, ['ant', 'bee', 'cat'])
    return tmp_path


def run(command, folder, config, *arguments):
    path = folder / 'config.py'
    Config(config).dump(path)
    return command.main([str(path), *map(str, arguments)])


SCHEDULE = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)


@pytest.mark.parametrize('settings', [
    dict(), dict(param_scheduler=[SCHEDULE]),
    dict(train_cfg=dict(by_epoch=False, max_iters=2))])
def test_fewer_images_than_a_batch(folder, settings, capsys):
    """Neither a run of no step nor an error of mmengine's schedules."""
    config = dict(pretraining(folder), **settings)
    config['train_dataloader']['batch_size'] = 8
    assert run(train_command, folder, config) == 2
    said = capsys.readouterr().err
    assert '6 images' in said and 'batch_size=8' in said and 'at most 4' in said
    assert not list((folder / 'work').glob('*.pth'))


def test_other_classes_to_validate_or_test_on(folder, capsys):
    assert run(train_command, folder, classification(folder)) == 0
    checkpoint = folder / 'work/epoch_1.pth'
    config = classification(folder)
    assert run(test_command, folder, config, checkpoint) == 0
    (folder / 'val/cat').rename(folder / 'val/aardvark')
    capsys.readouterr()
    assert run(test_command, folder, config, checkpoint) == 2
    said = capsys.readouterr().err
    assert "'ant'" in said and 'checkpoint' in said and f'{folder}/val' in said
    (folder / 'train/cat').rename(folder / 'train/aardvark')
    config['train_cfg']['max_epochs'] = 2
    assert run(train_command, folder, config, '--resume') == 2  # labels moved by one
    said = capsys.readouterr().err
    assert "'ant'" in said and 'checkpoint' in said and f'{folder}/train' in said
    (folder / 'train/aardvark').rename(folder / 'train/cat')
    checkpoint.unlink()
    assert run(train_command, folder, config) == 2
    said = capsys.readouterr().err
    assert "'ant'" in said and "'aardvark'" in said
    assert not checkpoint.exists()


def test_an_evaluation_of_all_images(folder, capsys):
    """``drop_last`` would leave out the last two of six."""
    for command, name in ((train_command, 'val'), (test_command, 'test')):
        config = classification(folder)
        config[f'{name}_dataloader'] = loader(folder, 'val', drop_last=True)
        arguments = [__file__] if name == 'test' else []
        assert run(command, folder, config, *arguments) == 2
        said = capsys.readouterr().err
        assert f'{name}_dataloader.drop_last' in said and 'last 2 of 6' in said


@pytest.mark.parametrize('labels, facts', [
    (None, ['no file that ends in', '.jpeg']), ('', ['no samples', 'labels.txt'])])
def test_no_samples(folder, capsys, labels, facts):
    """An empty folder and an empty file, where mmpretrain fails to list them."""
    config, empty = classification(folder), folder / 'empty'
    empty.mkdir()
    dataset = config['train_dataloader']['dataset']
    dataset['data_prefix'] = 'empty'
    if labels is not None:
        (folder / 'labels.txt').write_text(labels)
        dataset['ann_file'] = 'labels.txt'
    assert run(train_command, folder, config) == 2
    said = capsys.readouterr().err
    assert all(fact in said for fact in ['train_dataloader', *facts])


def test_images_that_are_none(folder, capsys):
    (folder / 'val/bee/1.jpg').write_text('not an image')
    assert run(train_command, folder, classification(folder)) == 2
    said = capsys.readouterr().err
    assert 'val_dataloader' in said and 'val/bee/1.jpg' in said
    assert not list((folder / 'work').glob('*.pth'))


def test_impossible_metrics(folder, capsys):
    for name, command, arguments in (
            ('val_evaluator', train_command, []),
            ('test_evaluator', test_command, [__file__])):
        config = classification(folder)
        config[name] = dict(type='Accuracy', topk=(1, 5))
        assert run(command, folder, config, *arguments) == 2
        said = capsys.readouterr().err
        assert name in said and 'top-5' in said and '3 classes' in said
