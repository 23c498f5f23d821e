"""Resuming with other processes, batches or workers than before."""
import json

import numpy as np
import pytest
import toy_training as toy
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS


@DATASETS.register_module()
class IndexDataset(toy.ToyDataset):
    """Its first number is the index, its second the augmentation."""

    def __getitem__(self, index):
        inputs = super().__getitem__(index)['inputs']
        inputs[1], inputs[0] = inputs[0] / self.images[index][0], index
        return dict(inputs=inputs)


@HOOKS.register_module()
class SeenHook(Hook):
    """Write down each iteration's images, to a file of the rank."""

    def __init__(self, folder):
        self.folder = folder

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        images = [image[:2].tolist() for image in data_batch['inputs']]
        with open(f'{self.folder}/seen_{runner.iter}_{runner.rank}', 'w') as file:
            json.dump(images, file)


def setting(folder, batch_size, loop='epoch', sampler='DefaultSampler', kill=False):
    return dict(
        loop=loop,
        hooks=[dict(type='SeenHook', folder=str(folder)),
               *(toy.kill()['hooks'] if kill else [])],
        checkpoint=dict(by_epoch=False, interval=3),
        train_dataloader=dict(
            batch_size=batch_size, dataset=dict(type='IndexDataset', size=24),
            sampler=dict(type=sampler, shuffle=True)))


def seen(folder):
    """Images, with their augmentation, of each iteration over all ranks."""
    iterations = {}
    for path in folder.glob('seen_*'):
        iteration = int(path.name.split('_')[1])
        iterations.setdefault(iteration, []).extend(json.loads(path.read_text()))
    return {iteration: sorted(images) for iteration, images in iterations.items()}


def indices(iterations, numbers):
    return sorted(image for number in numbers for image, _ in iterations[number])


@pytest.mark.parametrize('loop, sampler', [
    ('epoch', 'DefaultSampler'), ('iteration', 'InfiniteSampler')])
def test_more_processes_with_the_same_batch(tmp_path, said, loop, sampler):
    """One process of 4 images, then two of 2: images and augmentation stay."""
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    whole.mkdir(), cut.mkdir()
    assert toy.train(whole, **setting(whole, 4, loop, sampler))
    assert toy.train(cut, **setting(cut, 4, loop, sampler, kill=True)) is None
    said()
    assert toy.train_processes(
        cut, 2, resume=True, **setting(cut, 2, loop, sampler)) == [0, 0]
    assert seen(cut) == seen(whole)
    text = said()
    assert 'Resuming with 2 processes instead of 1 is not exact' in text
    assert 'batches of' not in text
    # The checkpoint after 9 iterations is within a window of 2.
    assert 'gradients of the open accumulation window are dropped' in text


def test_another_batch_goes_on_at_the_same_image(tmp_path, said):
    """18 images into the epochs of 24: after iteration 9 of 4, 18 of 2."""
    assert toy.train(tmp_path, **setting(tmp_path, 4, kill=True)) is None
    before = seen(tmp_path)
    runner = toy.train(tmp_path, resume=True, **setting(tmp_path, 2))
    assert runner.iter == runner.max_iters == 3 * 12
    after = seen(tmp_path)
    assert sorted(after) == [*range(10), *range(18, 36)]
    # The second epoch: batches 6, 7, 8 of the first life, then 18 to 23.
    assert sorted(indices(before, (6, 7, 8)) + indices(after, range(18, 24))) == [
        *range(24)]
    text = said()
    assert 'batches of 2 instead of 4 images is not exact' in text
    assert 'An epoch has 12 instead of 6 iterations now' in text


@HOOKS.register_module()
class BuffersHook(Hook):
    """Write down the buffers that a run starts with."""
    priority = 'LOWEST'

    def before_train(self, runner):
        torch.save(runner.model.module.state_dict(),
                   f'{runner.work_dir}/start_{runner.rank}')


def test_ranks_keep_their_buffers_with_windows_of_another_length(tmp_path):
    """Running statistics belong to no window."""
    assert 9 in toy.train_processes(tmp_path, 2, **toy.kill(8), **toy.MID_EPOCH)
    own = toy.newest(tmp_path)['exact_resume']['buffers'][1]
    codes = toy.train_processes(
        tmp_path, 2, resume=True, accumulative_counts=3,
        hooks=[dict(type='BuffersHook')], **toy.MID_EPOCH)
    assert codes == [0, 0]
    start = torch.load(tmp_path / 'start_1', weights_only=True)
    assert own and all(torch.equal(start[name], own[name]) for name in own)


PROGRESS = np.concatenate([np.arange(9) / 18, np.arange(18, 36) / 36])


@pytest.mark.parametrize('schedule, expected', [
    # A cosine over the epochs ends with them, whatever the batch.
    (dict(type='CosineAnnealingLR', by_epoch=True, T_max=3, eta_min=0.01,
          convert_to_iter_based=True),
     0.01 + (0.05 - 0.01) * (1 + np.cos(np.pi * PROGRESS)) / 2),
    # A warm-up of 20 iterations is not 40 because an epoch has more.
    (dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
     0.05 * np.linspace(0.1, 1, 20))], ids=['epochs', 'iterations'])
def test_schedules_follow_what_they_count(tmp_path, schedule, expected):
    options = dict(param_scheduler=[schedule], accumulative_counts=1)
    toy.train(tmp_path, **options, **setting(tmp_path, 4, kill=True))
    runner = toy.train(tmp_path, resume=True, **options, **setting(tmp_path, 2))
    rates = runner.message_hub.get_scalar('train/lr').data[0]
    assert len(rates) == 9 + 18
    np.testing.assert_allclose(rates[:len(expected)], expected, rtol=1e-9)


def test_checkpoints_of_others_are_resumed(tmp_path, said):
    """From mmengine's own hooks: the epoch goes on, and a warning says what not."""
    cut = setting(tmp_path, 4, kill=True)
    cut['checkpoint'].update(type='CheckpointHook')
    assert toy.train(tmp_path, without='ExactResumeHook', **cut) is None
    assert toy.train(tmp_path, resume=True, **setting(tmp_path, 4))
    assert 'checkpoint was written without ExactResumeHook' in said()
    assert indices(seen(tmp_path), range(6, 12)) == [*range(24)]
