"""The report of a run, in the settings that the demo does not have."""
import os
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mixedae_mm.analysis.report import (format_seconds, headline_of, origin_of,
                                        run_files, write_run_report)
from mixedae_mm.utils.errors import ConfigurationError
from small_models import MODEL
from test_training_hooks import train


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(9):
        pixels = np.random.randint(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
    return folder


@pytest.mark.parametrize('mode, head', [
    ('full', dict(type='MixedAEPretrainHead')),
    ('compose', dict(type='MixedAEPretrainHead', contrast_loss=None)),
])
def test_report_of_variants(tmp_path, images, mode, head):
    work_dir = tmp_path / 'run'
    model = dict(
        MODEL, head=head, data_preprocessor=dict(mix_ratio=0.5, mode=mode))
    train(work_dir, [dict(type='TopKAccuracyHook', num_images=8)], 4, model)
    if mode == 'compose':  # what has a default in PyTorch may be left out
        file, _ = run_files(work_dir)
        config = Config.fromfile(file)
        del config.optim_wrapper.optimizer['lr'], config.train_dataloader['batch_size']
        config.dump(file)
    out = tmp_path / 'new/report.html'
    headline = write_run_report(work_dir, images, out, {'a <step>': 61})
    page = out.read_text()
    assert page.count('data:image/png;base64,') == (
        {'full': 4, 'compose': 2}[mode] + 4)
    # Each says what it shows to who cannot see it.
    texts = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(texts) == page.count('<img') and all(len(text) > 20 for text in texts)
    assert len(set(texts)) == len(texts)
    assert f'{mode} mode' in page and 'chance 50' in page
    assert 'AdamW' in page and 'machine that wrote this page' in page
    assert ('learning rate 0.001, 8 images per step' in page) == (mode == 'full')
    assert ('contrastive loss' in headline) == (mode == 'full')
    assert 'a &lt;step&gt;' in page and '1 min 01 s' in page


def test_headline():
    steps = np.array([10, 20])
    curves = {
        'loss_recon': (steps, np.array([1.25, 0.5])),
        'time': (steps, np.array([2.0, 4.0])),
        'topk_accuracy/layer_01': (steps, np.array([25.0, 40.0])),
        'topk_accuracy/layer_02': (steps, np.array([25.0, 60.0])),
        'topk_accuracy/layer_03': (steps, np.array([25.0, 50.0])),
    }
    assert headline_of(curves, 25) == {
        'reconstruction loss': '1.250 → 0.500',
        'TopK accuracy, mean of layers (chance 25 %)': '50.0 %',
        'layers with TopK accuracy above 50 %': '1 of 3',
        'training time': '1 min 00 s',
    }


@pytest.mark.parametrize('seconds, text', [
    (0.4, '0 s'), (59.4, '59 s'), (59.6, '1 min 00 s'), (187, '3 min 07 s'),
    (7500, '2 h 05 min')])
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_whether_a_run_was_trained_on_images(tmp_path):
    content = {'own/x/a.png': 'a', 'own/b.png': 'b', 'new/a.png': 'other',
               'copy/b.png': 'b'}
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = str(tmp_path / 'own')
    new, copy = str(tmp_path / 'new/a.png'), str(tmp_path / 'copy/b.png')
    number, sentence = origin_of([new], own)
    assert number == 0 and 'None of these images is among the 2' in sentence
    number, sentence = origin_of([new, copy, f'{own}/x/a.png'], own)
    assert number == 2 and 'trained on 2 of these 3' in sentence
    number, sentence = origin_of([new], '')
    assert number is None and 'not known' in sentence


def test_what_is_no_run_is_refused(tmp_path, images):
    with pytest.raises(ConfigurationError, match='not the work folder of a run'):
        run_files(tmp_path)
    (tmp_path / 'config.py').touch()
    with pytest.raises(ConfigurationError, match='no checkpoint yet'):
        run_files(tmp_path)


@pytest.mark.parametrize('out_dir', [None, 'elsewhere'])
def test_the_newest_whole_checkpoint_of_a_moved_run(tmp_path, out_dir):
    work_dir = tmp_path / 'run'
    folder = tmp_path / out_dir / 'run' if out_dir else work_dir
    for each in {work_dir, folder}:
        each.mkdir(parents=True)
    (work_dir / 'config.py').write_text(
        f'default_hooks = dict(checkpoint=dict(out_dir={str(folder.parent)!r}))'
        if out_dir else '')
    for step in (5, 7):
        torch.save(dict(meta=dict(iter=step), message_hub={}),
                   folder / f'iter_{step}.pth')
    (work_dir / 'last_checkpoint').write_text('/before/run/iter_7.pth')
    assert run_files(work_dir) == (work_dir / 'config.py', folder / 'iter_7.pth')
    os.truncate(folder / 'iter_7.pth', 100)
    assert run_files(work_dir)[1] == folder / 'iter_5.pth'


def test_runs_without_topk_accuracy_are_refused(tmp_path, images):
    train(tmp_path / 'run', [], 2)
    with pytest.raises(ConfigurationError, match='lacks loss_recon or topk'):
        write_run_report(tmp_path / 'run', images, tmp_path / 'report.html')
