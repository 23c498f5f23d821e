"""Every command reads a stranger's checkpoint as data: nothing in it is executed."""
import json
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from mmengine.runner import CheckpointLoader
from strangers import Malicious
from toy_projects import write_project

import mixedae_mm
from mixedae_mm.__main__ import GROUPS
from mixedae_mm.models.checkpoint_reading import read_checkpoint
from mixedae_mm.utils.errors import ConfigurationError

ROOT = Path(__file__).parents[1]
DEMO = ROOT / 'configs/demo/mixedae_vit-tiny_demo.py'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Files that the commands look at before or after the checkpoint."""
    saved = dict(state_dict=dict(a=torch.ones(1)), meta=Malicious())
    torch.save(saved, tmp_path / 'stranger.pth')
    write_project(tmp_path)
    masks = dict(
        images=[dict(id=1, file_name='cat/0.png', width=32, height=32)],
        annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0, area=4,
                          bbox=[1, 1, 2, 2], segmentation=[[1, 1, 3, 1, 3, 3]])],
        categories=[dict(id=1, name='thing')])
    (tmp_path / 'instances.json').write_text(json.dumps(masks))
    run = tmp_path / 'run'
    (run / '1/vis_data').mkdir(parents=True)
    (run / '1/vis_data/scalars.json').write_text(json.dumps(
        {'loss_recon': 1., 'topk_accuracy/layer_01': 25., 'step': 1}) + '\n')
    (run / 'run.py').write_text(f'_base_ = {str(DEMO)!r}\n')
    (run / 'last_checkpoint').write_text(str(run / 'stranger.pth'))
    shutil.copy(tmp_path / 'stranger.pth', run)
    settings = dict(checkpoint='stranger.pth', img_size=[64, 64], amp=False,
                    fingerprint='', pooling='mean', folder='images')
    pyarrow.parquet.write_table(
        pyarrow.table(dict(path=['cat/0.png'])).replace_schema_metadata(
            dict(mixedae_mm=json.dumps(settings))), tmp_path / 'features.parquet')
    monkeypatch.chdir(tmp_path)
    # mmengine's table of checkpoint readers, which the commands change.
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    return tmp_path


def init_cfg(part):
    return [f'model.{part}.init_cfg.type=Pretrained',
            f'model.{part}.init_cfg.checkpoint=stranger.pth']


LOOK = [DEMO, 'stranger.pth', 'images']
COMMANDS = {
    'train, load_from': ['classify.py', '--cfg-options', 'load_from=stranger.pth'],
    'train, init_cfg': ['classify.py', '--cfg-options', *init_cfg('backbone')],
    'train, init_cfg of our encoder': [
        'classify.py', '--cfg-options', 'model.backbone.type=MixedAEViT',
        *init_cfg('backbone')],
    'train, init_cfg of our head': [
        DEMO, '--cfg-options', 'train_dataloader.dataset.data_root=images',
        *init_cfg('head')],
    'test': ['classify.py', 'stranger.pth'],
    'predict': ['images', '--checkpoint', 'stranger.pth'],
    'convert': ['stranger.pth', 'out', '--to', 'hf'],
    'export': ['stranger.pth', 'out.onnx'],
    'extract_features': ['images', 'out.parquet', '--checkpoint', 'stranger.pth'],
    'nearest_neighbours': ['features.parquet', 'images/cat/0.png'],
    'sampling_accuracy': LOOK,
    'sampling_accuracy, another model': [
        *LOOK, '--versus', 'other', DEMO, 'stranger.pth'],
    'visualize': ['attention', *LOOK],
    'visualize, mixing': ['mixing', *LOOK],
    'knn_and_probe': LOOK,
    'object_awareness': [DEMO, 'stranger.pth', 'instances.json', '--images', 'images'],
    'report': ['run', 'images'],
}
# They take no checkpoint, or only those that they have just made themselves, or
# hand it to tools/train.py as init_cfg.
OTHERS = {'benchmarks', 'browse_dataset', 'channel_statistics', 'conversion_table',
          'demo', 'demo_transfer', 'plot_logs', 'reproduce', 'transfer_eleven'}


def test_every_command_is_tried():
    tried = {name.partition(',')[0] for name in COMMANDS}
    assert tried | OTHERS == {name for names in GROUPS.values() for name in names}
    assert not tried & OTHERS


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_nothing_is_executed(project, command, capfd, name):
    assert command(name.partition(',')[0], *COMMANDS[name]) == 2
    assert not (project / 'executed').exists()
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith('error: ') and 'stranger.pth' in said
    assert 'that would run code' in said
    assert "If you trust the file" in said and "'weights.pth')" in said


def test_the_python_interface(project):
    with pytest.raises(ConfigurationError, match='stranger.pth.*would run code'):
        mixedae_mm.load('stranger.pth')
    assert not (project / 'executed').exists()


def test_the_advice_works(project):
    """What the sentence tells those who trust the file to do."""
    trusted = torch.load('stranger.pth', weights_only=False)['state_dict']
    torch.save(trusted, 'weights.pth')
    assert (project / 'executed').exists()  # so the file is what it seems
    assert read_checkpoint('weights.pth').keys() == {'a'}
