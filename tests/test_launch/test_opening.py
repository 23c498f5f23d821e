"""The beginning of a log, for runners and configs of any kind."""
import logging
import uuid
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS

from mixedae_mm.launch.opening import (BackgroundFilter, asked, background_written,
                                       build_opened, release)

FILE = 'run.log'


class Plain:
    """What a runner does with its log."""

    def __init__(self, cfg):
        self.logger = self.build_logger(cfg.get('log_level', 'INFO'))
        self.logger.info('Config:\nmodel')
        self.logger.info('first')
        self.cfg, self.log_dir = cfg, 'log'
        self.dump_config()

    def dump_config(self):
        if isinstance(self.cfg.runner_type, str):  # mmengine 0.10.7 writes no class
            self.cfg.dump('c.py')

    @classmethod
    def from_cfg(cls, cfg):
        return cls(cfg)

    def build_logger(self, log_level):
        return MMLogger.get_instance(
            str(uuid.uuid4()), log_file=FILE, log_level=log_level)


class OtherLogger(Plain):
    """As FlexibleRunner, another object builds the logger."""
    build_logger = None

    def __init__(self, cfg):
        self.logger = Plain.build_logger(self, 'INFO')


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RUNNERS.module_dict, 'Plain', Plain)
    return tmp_path


def config(**values):
    return Config(dict(work_dir='w', **values), cfg_text='text', filename='c.py')


def written():
    with open(FILE) as file:
        return file.read()


@pytest.mark.parametrize('kind', ['Plain', Plain, OtherLogger])
def test_every_runner_begins_with_what_was_asked(kind):
    runner = build_opened(config(runner_type=kind), False)
    release(runner.logger)
    assert 'Train with c.py' in written().splitlines()[0]
    assert ('Config:' in written()) == (kind is not OtherLogger)


def test_a_test_does_not_replace_the_config_of_the_training(here):
    (here / 'log').mkdir()
    for for_test, level in ((False, 'INFO'), (True, 'DEBUG')):  # such as --tta
        build_opened(config(runner_type='Plain', log_level=level), for_test)
    assert Config.fromfile('c.py').log_level == 'INFO'
    assert Config.fromfile('log/c.py').log_level == 'DEBUG'


def test_a_refusal_leaves_the_config_in_the_file():
    with pytest.raises(KeyError), background_written():
        build_opened(config(runner_type=Plain), False)
        raise KeyError
    text = written()
    assert 0 < text.index('first') < text.index('Config:')


def test_the_level_of_a_log_is_that_of_its_background():
    release(build_opened(config(runner_type=Plain, log_level='WARNING'), False).logger)
    assert written() == ''


def test_a_message_that_comes_while_another_is_written_is_written_once():
    """As from two threads."""
    logger = build_opened(config(runner_type=Plain), False).logger
    release(logger)

    class Busy(logging.FileHandler):
        def emit(self, record):
            if self.name is None:
                self.name = 'busy'
                logger.info('Config:\ninner')
            super().emit(record)

    logger.addHandler(Busy('busy.log'))
    logger.info('Config:\nouter')
    for text in (written(), Path('busy.log').read_text()):
        assert text.count('outer') == text.count('inner') == 1


def test_arguments_that_do_not_fit_a_message_are_left_to_logging(monkeypatch):
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # else it prints a traceback
    logger = build_opened(config(runner_type=Plain), False).logger
    logger.info('loss', 0.5)
    logger.info('step %d', 7)
    assert 'step 7' in written()
    assert any(isinstance(one, BackgroundFilter) for one in logger.filters)


@pytest.mark.parametrize('classes, line', [
    (['lid', 'tile'], 'batches of 2, 2 classes: lid, tile'),
    (tuple('abcdefghij'), '10 classes: a, b, c, d, e, f, g, h and 2 more'),
    ('names.txt', 'batches of 2'), (3, 'batches of 2'), (None, 'batches of 2')])
def test_classes_are_named_where_the_config_names_them(classes, line):
    lines = list(asked(config(train_dataloader=dict(batch_size=2, dataset=dict(
        data_root='data', metainfo=dict(classes=classes)))), False))
    assert any(text.startswith('train') and text.endswith(line) for text in lines)


@pytest.mark.parametrize('odd', [
    {}, dict(model=None, train_dataloader=None, train_cfg=None),
    dict(model='Net', train_dataloader=[1], train_cfg=5),
    dict(model=dict(backbone='vit'), train_dataloader=dict(dataset=[dict(type='A')])),
    dict(model=[dict(type='A')], test_dataloader=[dict(dataset=dict(type='A'))])])
@pytest.mark.parametrize('for_test', [False, True])
def test_configs_of_odd_shapes_have_an_opening(odd, for_test):
    assert len(list(asked(config(**odd), for_test))) >= 3


def test_a_resumed_run_names_its_weights():
    assert 'weights  the newest checkpoint of w, resumed' in asked(
        config(resume=True), False)
    assert 'weights  a.pth, resumed' in asked(
        config(resume=True, load_from='a.pth'), False)
