"""The transfer demo: what is finished is kept, what fails says so."""
import sys

import pytest

from mixedae_mm.errors import ConfigurationError
from mixedae_mm.evaluation import transfer_demo as demo

# Stands for tools/train.py: logs a metric that depends on what it was given.
TRAIN = '''
import json, os, pathlib, sys
config, _, folder, _, *options = sys.argv[1:]
assert os.environ['DATA_ROOT'].endswith('scenes/ade'), os.environ['DATA_ROOT']
log = pathlib.Path(folder, '20260101_000000/vis_data/scalars.json')
log.parent.mkdir(parents=True, exist_ok=True)
log.write_text('{"loss": 2.0, "step": 1}\\n' + json.dumps(
    dict(mIoU=len(options), step=1)) + '\\n')
with open(pathlib.Path(folder, 'lives'), 'a') as lives:
    lives.write(' '.join(options) + '\\n')
if 'fail=1' in options:
    sys.exit('a reason')
'''
SEGMENTATION = demo.TASKS[1]


@pytest.fixture
def run(tmp_path):
    """A run on tiny data, from random weights."""
    config, data = tmp_path / 'config.py', tmp_path / 'data/scenes/ade'
    config.write_text('a = 1')
    data.mkdir(parents=True)
    (tmp_path / 'data/scenes/generated.json').write_text('{}')
    return demo.Run(SEGMENTATION, demo.RANDOM, None, config, data,
                    tmp_path / 'run')


@pytest.fixture
def train(tmp_path):
    """``train(run, *options)``, with the stand-in."""
    script = tmp_path / 'train.py'
    script.write_text(TRAIN)

    def fine_tune(run, *options):
        demo.fine_tune(run, [sys.executable, str(script)], options, threads=1)

    return fine_tune


def test_a_result_holds_for_what_it_was_made_with(tmp_path, run, train):
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'weights')
    run = run._replace(checkpoint=checkpoint)
    assert run.result([]) is None
    train(run)
    assert run.result([]) == dict(mIoU=1) and run.seconds() > 0
    train(run, 'a=1', 'b=2')
    assert run.result(['a=1', 'b=2']) == dict(mIoU=3)
    assert run.result([]) is None
    lives = (run.folder / 'lives').read_text().splitlines()
    assert lives[0] == f'model.backbone.init_cfg.checkpoint={checkpoint}'
    for file in (checkpoint, run.config, run.data.parent / 'generated.json'):
        train(run)
        assert run.result([]) == dict(mIoU=1)
        file.write_text(dict(py='b = 2').get(file.suffix[1:], '[]'))
        assert run.result([]) is None


def test_random_weights_are_no_checkpoint(run, train):
    train(run)
    assert (run.folder / 'lives').read_text() == 'model.backbone.init_cfg=None\n'


def test_a_failed_run_has_no_result_and_tells_its_last_line(run, train):
    train(run)
    with pytest.raises(ConfigurationError,
                       match=r'run ended with status 1 \("a reason"\); its '
                       r'output is in .*train.log'):
        train(run, 'fail=1')
    assert run.result([]) is None


def test_a_missing_metric_is_named(run, train):
    with pytest.raises(ConfigurationError, match='have no coco/bbox_mAP'):
        train(run._replace(task=demo.TASKS[2]))


def test_after_a_failure_no_run_is_begun(run):
    runs = [run._replace(start=str(number)) for number in range(5)]
    begun, told = [], []

    def fine_tune(run):
        begun.append(run.start)
        if run.start == '2':
            raise ConfigurationError('number two')

    demo.fine_tune_all(runs[:2], 1, fine_tune, told.append)
    assert begun == ['0', '1'] and len(told) == 2
    assert told[-1].startswith('segmentation from 1: ')
    with pytest.raises(ConfigurationError, match='number two'):
        demo.fine_tune_all(runs, 1, fine_tune, told.append)
    assert begun[2:5] == ['0', '1', '2']


def test_table():
    percent = {column: 10 + number for number, column in enumerate(demo.COLUMNS)}
    assert demo.table({'MAE': percent}) == [
        ['starting point', 'top-1', 'mIoU', 'box AP', 'mask AP'],
        ['MAE', '10.0', '11.0', '12.0', '13.0'],
    ]
    assert demo.table({'MAE': {'mIoU': 7.77}})[1] == ['MAE', '7.8']
