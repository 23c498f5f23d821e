"""Resuming with other processes, batches or workers than before."""
import numpy as np
import pytest
import toy_training as toy
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS

KILL = dict(type='KillHook', stage='after_train_iter', iteration=10)


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

    def __init__(self, path):
        self.path = path

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        seen = sorted((int(image[0]), float(image[1]))
                      for image in data_batch['inputs'])
        with open(f'{self.path}/seen_{runner.iter}_{runner.rank}', 'w') as file:
            file.write(repr(seen))


def setting(folder, batch_size, loop='epoch', sampler='DefaultSampler',
            kill=False):
    return dict(
        loop=loop,
        hooks=[dict(type='SeenHook', path=str(folder))] + [KILL] * kill,
        checkpoint=dict(by_epoch=False, interval=3),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=dict(type='IndexDataset', size=24),
            sampler=dict(type=sampler, shuffle=True)))


def seen(folder):
    """Images, with their augmentation, of each iteration over all ranks."""
    iterations = {}
    for path in folder.glob('seen_*'):
        images = iterations.setdefault(int(path.name.split('_')[1]), [])
        images += eval(path.read_text())
    return {number: sorted(images) for number, images in iterations.items()}


@pytest.mark.parametrize('loop, sampler', [
    ('epoch', 'DefaultSampler'), ('iteration', 'InfiniteSampler')])
def test_more_processes_with_the_same_batch(tmp_path, capfd, loop, sampler):
    """One process of 4 images, then two of 2: images and augmentation stay."""
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    whole.mkdir(), cut.mkdir()
    assert toy.train(whole, **setting(whole, 4, loop, sampler))
    assert toy.train(cut, **setting(cut, 4, loop, sampler, kill=True)) is None
    capfd.readouterr()
    codes = toy.train_processes(
        cut, 2, resume=True, **setting(cut, 2, loop, sampler))
    assert codes == [0, 0]
    assert seen(cut) == seen(whole)
    said = ''.join(capfd.readouterr())
    assert 'Resuming with 2 processes instead of 1 is not exact' in said
    assert 'batches of' not in said


def test_another_batch_goes_on_at_the_same_image(tmp_path, capfd):
    """18 images into the epochs of 24: after iteration 9 of 4, 18 of 2."""
    assert toy.train(tmp_path, **setting(tmp_path, 4, kill=True)) is None
    before = seen(tmp_path)
    runner = toy.train(tmp_path, resume=True, **setting(tmp_path, 2))
    assert runner.iter == runner.max_iters == 3 * 12
    after = seen(tmp_path)
    assert sorted(after) == [*range(10), *range(18, 36)]
    # The second epoch: batches 6, 7, 8 of the first life, then 18 to 23.
    images = [image for number in (6, 7, 8) for image, _ in before[number]]
    images += [image for number in range(18, 24) for image, _ in after[number]]
    assert sorted(images) == list(range(24))
    said = ''.join(capfd.readouterr())
    assert 'batches of 2 instead of 4 images is not exact' in said
    assert 'An epoch has 12 instead of 6 iterations now' in said


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


def test_open_windows_of_other_processes_are_dropped(tmp_path, capfd):
    """Checkpoint after 9 iterations, in a window of 2."""
    assert toy.train(tmp_path, **setting(tmp_path, 4, kill=True)) is None
    capfd.readouterr()
    assert toy.train_processes(
        tmp_path, 2, resume=True, **setting(tmp_path, 2)) == [0, 0]
    said = ''.join(capfd.readouterr())
    assert 'gradients of the open accumulation window are dropped' in said


def test_checkpoints_of_others_are_resumed(tmp_path, capfd):
    """From mmengine's own hooks: the epoch goes on, and a warning says what not."""
    cut = setting(tmp_path, 4, kill=True)
    cut['checkpoint'].update(type='CheckpointHook')
    assert toy.train(tmp_path, without='ExactResumeHook', **cut) is None
    assert toy.train(tmp_path, resume=True, **setting(tmp_path, 4))
    said = ''.join(capfd.readouterr())
    assert 'checkpoint was written without ExactResumeHook' in said
    after = seen(tmp_path)
    images = [image for number in range(6, 12) for image, _ in after[number]]
    assert sorted(images) == list(range(24))
