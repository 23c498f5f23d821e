"""Table 2's protocol: what is trained, chosen and recognised."""
import json
import re
from math import log10
from pathlib import Path

import preloaded
import pytest
import torch
from mmengine.config import Config
from small_vit import ARCH, backbone
from test_transfer import tiny_data

from converters.layouts import LAYOUTS, resnet
from mixedae_mm.utils.errors import ConfigurationError
from reproduce import fingerprints
from transfer import transfer_eleven as eleven_sets

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Configs of the set "dtd", its one image, and weights of two models."""
    monkeypatch.setattr(eleven_sets, 'CONFIGS', tmp_path / 'configs')
    config = Config(dict(
        data_root=str(tmp_path / 'data/dtd'),
        model=dict(backbone=dict(init_cfg=dict(checkpoint='none.pth'))),
        train_dataloader=dict(dataset=dict(type='A', split='trainval')),
        val_dataloader=dict(dataset=dict(type='A', split='test')),
        optim_wrapper=dict(optimizer=dict(lr=0., weight_decay=0.)),
        train_cfg=dict(max_iters=5000, val_interval=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook'),
                           logger=dict(log_metric_by_epoch=False)),
        custom_hooks=[dict(type='NonFiniteLossHook')],
        sweep=dict(train_split='train', val_split='val')))
    (tmp_path / 'configs').mkdir()
    config.dump(tmp_path / 'configs/dtd.py')
    (tmp_path / 'data/dtd').mkdir(parents=True)
    (tmp_path / 'data/dtd/image.jpg').write_bytes(b'pixels')
    for name, value in (('mae', 1.), ('mixedae', 2.)):
        torch.save(dict(state_dict=dict(weight=torch.tensor([value]))),
                   tmp_path / f'{name}.pth')
    return tmp_path


class Trainer:
    """Stands for ``train_all``: a learning rate of 0.01 and no decay are best."""

    def __init__(self):
        self.runs = []

    def __call__(self, runs, *_):
        for run in runs:
            run.check_setting()
            if not run.is_finished:
                self.train(run)

    def train(self, run):
        config = Config.fromfile(run.config)
        optimizer = config.optim_wrapper.optimizer
        split = config.val_dataloader.dataset.split
        is_final = split == 'test'
        # A sweep keeps no weights and does not stop where a choice diverges.
        assert len(config.custom_hooks) == is_final
        assert config.default_hooks.checkpoint.get('save_last', True) == is_final
        self.runs.append((optimizer.lr, optimizer.weight_decay, split))
        value = 90 - abs(log10(optimizer.lr) + 2) - optimizer.weight_decay
        if is_final:
            weights = torch.load(config.model.backbone.init_cfg.checkpoint)
            value -= 20 * weights['state_dict']['weight'].item()
            run.checkpoint.touch()
        log = run.folder / '20260101_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps(dict(loss=1., iter=5000, step=5000)) + '\n' +
                       json.dumps({'accuracy/top1': value, 'step': 5000}) + '\n')


@pytest.fixture
def transfer(project, monkeypatch):
    """Run the command; the last row's value, and what was trained."""

    def run(checkpoint, *arguments, sets=('dtd', )):
        fingerprints.path_fingerprint.cache_clear()  # each command reads all files
        fingerprints.weights_fingerprint.cache_clear()
        trainer = Trainer()
        monkeypatch.setattr(eleven_sets, 'train_all', trainer)
        table = eleven_sets.transfer(eleven_sets.parse_arguments([
            str(project / checkpoint), '--work-dir', str(project / 'work'), '--sets',
            *sets, *arguments]), threads=1, lock=0)
        title, value, mean = table.splitlines()[-1].strip('| ').split(' | ')
        assert value == mean and title == Path(checkpoint).stem
        return float(value), trainer.runs

    return run


def test_the_sweep_tests_once_with_what_validated_best(transfer):
    value, runs = transfer('mae.pth')
    assert value == 70 and runs[-1] == (1e-2, 0., 'test')
    assert [split for *_, split in runs[:-1]] == ['val'] * 8
    assert transfer('mae.pth') == (70, [])  # nothing is trained twice


def test_results_are_recognised_by_weights_data_and_options(project, transfer):
    """In one work folder, as the command has it by default."""
    def trained(checkpoint='mae.pth', *arguments):
        value, runs = transfer(checkpoint, '--learning-rates', '1e-2',
                               '--weight-decays', '0', *arguments)
        return value, len(runs)

    assert trained() == (70, 2)
    assert trained('mixedae.pth') == (50, 2)  # not the first one's numbers
    assert trained() == (70, 0)
    (project / 'mae.pth').rename(project / 'moved.pth')
    assert trained('moved.pth') == (70, 0)
    (project / 'mixedae.pth').rename(project / 'mae.pth')
    assert trained('mae.pth') == (50, 0)  # another model under the old name
    for option in ('a=1', f'load_from={project}/moved.pth'):
        assert trained('mae.pth', '--cfg-options', option) == (50, 2)
    (project / 'data/dtd/image.jpg').write_bytes(b'others')  # as many bytes
    assert trained() == (50, 2)


def test_addresses_with_one_file_name_are_two_rows():
    titles = {eleven_sets.title_of(f'https://host/{name}/model.safetensors')
              for name in ('a', 'b')}
    assert len(titles) == 2


def test_a_missing_set_stops_before_the_first_run(project, transfer):
    (project / 'configs/pets.py').write_text("data_root = 'nowhere/b'")
    with pytest.raises(ConfigurationError, match=(
            r'missing: pets \(.*b\); run those that are there with --sets dtd')):
        transfer('mae.pth', sets=['dtd', 'pets'])
    assert not (project / 'work').exists()


@pytest.mark.parametrize('gpus', [3, 65])
def test_processes_that_do_not_divide_the_batch_are_refused(gpus):
    with pytest.raises(ConfigurationError, match=f'{gpus}, .* divide the batch of 64'):
        eleven_sets.main(eleven_sets.parse_arguments(['a.pth', '--gpus', str(gpus)]))


def test_table_2s_averages_are_the_papers():
    names = list(eleven_sets.SETS)
    lines = eleven_sets.table(eleven_sets.PAPER, names).splitlines()
    assert lines[0].startswith('| Method | Aircraft | Caltech | Cars |')
    assert lines[2].endswith('| 85.3 |') and 'MAE' in lines[2]
    assert lines[3].endswith('| 86.9 |') and 'MixedAE' in lines[3]


SMALL_VIT = (
    'model.head.in_channels=32', 'model.backbone.patch_size=32',
    'model.backbone.img_size=64', 'model.backbone.arch._delete_=True',
    'model.backbone.arch.embed_dims=32', 'model.backbone.arch.num_layers=2',
    'model.backbone.arch.num_heads=2', 'model.backbone.arch.feedforward_channels=32')


@pytest.mark.slow
@pytest.mark.parametrize('kind, options', [('vit-b', SMALL_VIT), ('resnet50', ())])
def test_the_command_prints_table_2(tmp_path, monkeypatch, kind, options):
    """A set in its real format, with a ViT that trains in a second; and MoCo v2."""
    tiny_data.small_set('voc2007', tmp_path / 'data/VOC2007', 8, monkeypatch)
    command = [
        ROOT / 'tools/transfer/transfer_eleven.py',
        tmp_path / 'vit.pth', '--sets', 'voc2007', '--data-root', tmp_path / 'data',
        '--backbone', kind,
        '--learning-rates', '1e-2', '--weight-decays', '0', '--work-dir',
        tmp_path / 'runs', '--cfg-options', 'train_cfg.max_iters=2',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0', *options]
    vit = backbone(arch=dict(ARCH, num_layers=2, feedforward_channels=32),
                   patch_size=32, img_size=64)
    weights = vit.state_dict()
    if kind == 'resnet50':
        weights = LAYOUTS['MoCo v2'].content(resnet({})[0].state_dict(), {})
    torch.save(weights, tmp_path / 'vit.pth')
    for finished in (2, 0):  # the second time nothing is left to do
        output = preloaded.output_of(*command)
        header, _, mae, mixedae, row = re.findall(r'^\|.*', output, re.M)
        assert header == '| Method | VOC | Avg. |'
        assert mae == '| MAE (paper) | 86.0 | 86.0 |'
        assert re.fullmatch(r'\| vit( \| \d+\.\d){2} \|', row), row
        assert output.count('finished') == finished
    # Weights are kept of the final run only.
    kept, = tmp_path.glob('runs/*/*/*.pth')
    assert kept.parent.name.startswith('test_')
