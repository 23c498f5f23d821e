"""A log that begins with what was asked and what was found."""
import logging
import os
import re
from contextlib import contextmanager
from typing import Any, Iterator, List

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..config.tree import resolve, type_name
from ..utils.machine import cpu_cores
from ..utils.messages import listed
from .checks import initial_weights

# mmengine's messages of a hundred lines, and those that nobody can act on.
BACKGROUND = re.compile(
    r'\n-+\nSystem environment|Config:\n|Hooks will be executed'
    r'|"(FileClient|HardDiskBackend)" |.* is skipped since its requires_grad=False'
    r'|Distributed training is not used|The prefix is not set in metric class')


class BackgroundFilter(logging.Filter):
    """Send :data:`BACKGROUND` to the log file only, behind what was found."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.logger = logger
        self.held: List[logging.LogRecord] = []
        self.is_holding = True
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        # Not getMessage(), which fails where a user's arguments do not fit.
        if not BACKGROUND.match(str(record.msg)):
            return True
        if self.is_holding:
            self.held.append(record)
        else:
            self._write(record)
        return False

    def release(self) -> None:
        """Write what was held back, and hold nothing back from now on."""
        self.is_holding = False
        while self.held:
            self._write(self.held.pop(0))

    def _write(self, record: logging.LogRecord) -> None:
        for handler in self.logger.handlers:
            if (isinstance(handler, logging.FileHandler)
                    and record.levelno >= handler.level):
                handler.handle(record)


@contextmanager
def background_written() -> Iterator[None]:
    """Write what is still held back when the preparation inside has failed."""
    try:
        yield
    except BaseException:
        release(MMLogger.get_current_instance())
        raise


def release(logger: logging.Logger) -> None:
    """Write what every :class:`BackgroundFilter` of a logger holds back."""
    for background in logger.filters:
        if isinstance(background, BackgroundFilter):
            background.release()


def build_opened(cfg: Config, for_test: bool) -> Runner:
    """Build the runner of a config, whose log begins with :func:`asked`."""
    kind = cfg.get('runner_type') or 'Runner'
    if isinstance(kind, str):
        kind = RUNNERS.get(kind)
    if not isinstance(kind, type):
        return RUNNERS.build(cfg)  # says what is wrong
    opening = '\n    '.join(asked(cfg, for_test))

    class Opened(kind):  # type: ignore[valid-type, misc]

        def build_logger(self, *args: Any, **kwargs: Any) -> logging.Logger:
            logger = super().build_logger(*args, **kwargs)
            logger.info(opening)
            BackgroundFilter(logger)
            return logger

        @master_only
        def dump_config(self) -> None:
            if not for_test:
                super().dump_config()
                return
            # With --tta or --cfg-options it is not the config of the training, which
            # lies in the same work folder.
            name = os.path.basename(str(self.cfg.filename))
            self.cfg.dump(os.path.join(self.log_dir, name))

    Opened.__name__ = Opened.__qualname__ = kind.__name__
    runner = Opened.from_cfg(cfg)
    if not any(isinstance(one, BackgroundFilter) for one in runner.logger.filters):
        runner.logger.info(opening)  # FlexibleRunner's strategy builds the logger
    return runner


def node(config: Any, *keys: str) -> dict:
    """The dictionary below some keys; an empty one where a config has another value."""
    below = resolve(config, keys)
    return below if isinstance(below, dict) else {}


def asked(cfg: Config, for_test: bool) -> Iterator[str]:
    """What a config asks for, in a line for each part."""
    yield f'{"Test" if for_test else "Train"} with {cfg.filename}:'
    model, backbone = node(cfg, 'model'), node(cfg, 'model', 'backbone')
    parts = [type_name(model), type_name(backbone)]
    if isinstance(backbone.get('arch'), str):
        parts.append(backbone['arch'])
    if 'patch_size' in backbone:
        parts.append(f'patches of {backbone["patch_size"]} pixels')
    if 'img_size' in backbone:
        parts.append(f'positions for images of {backbone["img_size"]}')
    yield 'model    ' + ', '.join(filter(None, parts))
    for mode in ('test',) if for_test else ('train', 'val'):
        loader = node(cfg, f'{mode}_dataloader')
        dataset = node(loader, 'dataset')
        if dataset:
            classes = node(dataset, 'metainfo').get('classes')
            if not isinstance(classes, (list, tuple)):  # a file of names, or none
                classes = ()
            yield (f'{mode:<8} {dataset.get("data_root") or type_name(dataset)}, '
                   f'batches of {loader.get("batch_size", 1)}'
                   + (f', {len(classes)} classes: {listed(classes)}'
                      if classes else ''))
    start = cfg.get('load_from') or ', '.join(
        init_cfg['checkpoint'] for init_cfg in initial_weights(cfg))
    if cfg.get('resume'):
        start = cfg.get('load_from') or f'the newest checkpoint of {cfg.work_dir}'
    yield f'weights  {start or "random"}' + (', resumed' if cfg.get('resume') else '')
    length = node(cfg, 'train_cfg')
    if not for_test:
        epochs = length.get('max_epochs')
        yield 'length   ' + (
            f'{epochs} epochs' if epochs else f'{length.get("max_iters")} steps')
    yield f'results  {cfg.work_dir}, with the whole config'


def log_found(runner: Runner, *modes: str) -> None:
    """Say how many images and batches there are, then what was held back."""
    parts: List[str] = []
    notes: List[str] = []
    cores = cpu_cores()
    for mode in modes:
        loop = getattr(runner, f'{mode}_loop', None)
        if loop is not None:
            loader = loop.dataloader
            parts.append(
                f'{mode} {len(loader.dataset)} images in {len(loader)} batches')
            if loader.num_workers > cores:
                notes.append(f'{mode}_dataloader.num_workers is {loader.num_workers}')
    runner.logger.info(f'Found: {"; ".join(parts)}')
    if notes:
        runner.logger.warning(
            f'{" and ".join(notes)}, but there are {cores} CPU cores to load with.')
    release(runner.logger)
