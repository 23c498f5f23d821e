"""Logs of runs: joined, smoothed, and clear about what is not there."""
import json

import numpy as np
import pytest

from mixedae_mm.analysis.run_log import (choose_curves, layer_accuracies,
                                         read_run, smooth, training_seconds)
from mixedae_mm.utils.errors import ConfigurationError


def write_log(work_dir, start, records, torn=''):
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(
        ''.join(json.dumps(record) + '\n' for record in records) + torn)


def record(step, loss, **others):
    return dict(step=step, iter=step, loss_recon=loss, **others)


def test_a_resumed_run_is_joined(tmp_path):
    write_log(tmp_path, '20260101_000000',
              [record(s, s / 100) for s in (10, 20, 30, 40)])
    write_log(tmp_path, '20260102_000000',
              [record(s, s) for s in (30, 40, 50)])
    steps, values = read_run(tmp_path)['loss_recon']
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert values.tolist() == [0.1, 0.2, 30, 40, 50]


def test_a_run_begun_anew_replaces_the_old_one(tmp_path):
    write_log(tmp_path, '20260101_000000', [record(10, 1), record(20, 1)])
    write_log(tmp_path, '20260102_000000', [
        {'step': 0, 'topk_accuracy/layer_01': 24.0}, record(10, 2)])
    curves = read_run(tmp_path)
    assert curves['loss_recon'][1].tolist() == [2]
    assert layer_accuracies(curves)[1][1].tolist() == [24]


def test_measurements_by_epoch_do_not_replace_training_by_step(tmp_path):
    """Four steps an epoch; killed after step 14, resumed from epoch 3."""
    def measured(epoch, accuracy):
        return {'step': epoch, 'accuracy': accuracy, 'time': 99.0}

    write_log(tmp_path, '20260101_000000', [
        record(2, 2, time=1.0, epoch=1), record(4, 4, time=1.0, epoch=1),
        measured(1, 10), record(8, 8, time=1.0, epoch=2), measured(2, 20),
        record(12, 12, time=1.0, epoch=3), measured(3, 30),
        record(14, 14, time=1.0, epoch=4)])
    write_log(tmp_path, '20260102_000000', [
        record(14, 140, time=2.0, epoch=4), record(16, 16, time=2.0, epoch=4),
        measured(4, 40)])
    write_log(tmp_path, '20260103_000000', [measured(4, 41)])  # --resume once more
    curves = read_run(tmp_path)
    assert curves['loss_recon'][1].tolist() == [2, 4, 8, 12, 140, 16]
    assert [c.tolist() for c in curves['accuracy']] == [[1, 2, 3, 4],
                                                        [10, 20, 30, 41]]
    assert training_seconds(curves) == 12 * 1 + 4 * 2
    assert not {'step', 'iter', 'epoch'} & set(curves)

    # Begun anew in the same folder: what was measured before is of another run.
    write_log(tmp_path, '20260104_000000', [record(2, 0, epoch=1)])
    curves = read_run(tmp_path)
    assert curves['loss_recon'][1].tolist() == [0] and 'accuracy' not in curves


def test_a_killed_run_can_be_read(tmp_path):
    write_log(tmp_path, '20260101_000000', [record(10, 1.0)], '{"step": 20, "lo')
    assert read_run(tmp_path)['loss_recon'][0].tolist() == [10]


def test_a_single_file_or_start_can_be_read(tmp_path):
    write_log(tmp_path, '20260101_000000', [record(10, 1.0, note='text')])
    file = tmp_path / '20260101_000000/vis_data/scalars.json'
    for path in (file, file.parents[1]):
        curves = read_run(path)
        assert set(curves) == {'loss_recon'}  # text is not a curve
        assert curves['loss_recon'][1].tolist() == [1]


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match='has no log'):
        read_run(tmp_path)
    with pytest.raises(ConfigurationError, match='does not exist'):
        read_run(tmp_path / 'missing')
    write_log(tmp_path, '20260101_000000', [[1], record(10, 1.0)])
    for wrong in ([1], {'loss': 1.0}, {'step': 'ten'}, {'step': None}):
        file = tmp_path / '20260101_000000/vis_data/scalars.json'
        file.write_text(json.dumps(wrong) + '\n' + json.dumps(record(10, 1.0)))
        with pytest.raises(ConfigurationError, match='Line 1 of .*scalars.json'):
            read_run(tmp_path)
    file.write_text('{"step": "7", "iter": 7, "loss": 1.0}')  # numbers as text
    assert read_run(tmp_path)['loss'][0].tolist() == [7]


def test_training_seconds_weighs_each_line_by_its_iterations():
    curves = dict(time=(np.array([10, 20, 50]), np.array([1.0, 2.0, 0.5])))
    assert training_seconds(curves) == 10 * 1 + 10 * 2 + 30 * 0.5
    assert training_seconds({}) == 0


def test_smoothing_is_a_trailing_mean():
    steps, values = np.arange(6), np.array([3.0, 1, 4, 1, 5, 9])
    for window in (1, 2, 4, 10):
        expected = [
            values[max(0, i - window + 1):i + 1].mean() for i in range(6)
        ]
        smoothed = smooth((steps, values), window)
        assert smoothed[0] is steps
        assert smoothed[1] == pytest.approx(expected)


def test_a_loss_that_is_not_finite_is_a_gap_at_its_own_point():
    curve = np.arange(6), np.array([1, np.nan, 3, np.inf, 6, 8])
    for window, expected in ((1, [1, np.nan, 3, np.nan, 6, 8]),
                             (3, [1, np.nan, 2, np.nan, 4.5, 7])):
        np.testing.assert_array_equal(smooth(curve, window)[1], expected)


def a_run(loss):
    steps = np.array([1, 2])
    return {
        'loss_recon': (steps, np.array([loss, loss / 2])),
        'lr': (steps, np.array([1.0, 2.0])),
        'topk_accuracy/layer_01': (steps, np.array([20.0, 40.0])),
        'topk_accuracy/layer_02': (steps, np.array([30.0, 80.0])),
    }


def test_curves_are_sorted_by_what_they_show():
    plain = dict(loss=(np.array([1]), np.array([1.0])))
    chosen = choose_curves(dict(a=a_run(1.0), b=a_run(2.0), c=plain))
    assert list(chosen) == ['loss_recon', 'topk_accuracy']
    assert list(chosen['loss_recon']) == ['a', 'b']
    assert chosen['loss_recon']['b'][1].tolist() == [2, 1]
    assert chosen['topk_accuracy']['a'][1].tolist() == [25, 60]
    assert list(choose_curves(dict(c=plain))) == ['loss']
    assert list(choose_curves(dict(a=a_run(1.0)), ['lr'])) == ['lr']


def test_keys_that_nobody_logged_are_refused():
    with pytest.raises(ConfigurationError, match='logged typo; there are: l'):
        choose_curves(dict(a=a_run(1.0)), ['lr', 'typo'])
    with pytest.raises(ConfigurationError, match='is 0, .* at least 1'):
        choose_curves(dict(a=a_run(1.0)), window=0)
