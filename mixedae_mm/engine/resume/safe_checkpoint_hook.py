"""Checkpoints that are never lost or half-written."""
import copy
import os.path as osp
from contextlib import contextmanager
from functools import wraps
from glob import escape, glob
from typing import Callable, Iterator, Optional

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from ...utils.checkpoint_files import (COMPLETE, checkpoint_folders,
                                       find_resumable_checkpoint)
from ...utils.errors import ConfigurationError
from ...utils.files import PARTIAL, delete, write_atomically
from ...utils.messages import listed, warn
from ...utils.processes import from_main_process
from .file_backend import AtomicBackend, DeletesLater

INTERRUPTED = 'interrupted_iter_{}.pth'
OUTDATED = 'outdated_checkpoints'  # our entry in a checkpoint
# What CheckpointHook changes while it saves.
CHANGED = ('last_ckpt', 'keep_ckpt_ids', 'best_ckpt_path', 'best_ckpt_path_dict')
DRAWS = ('add_scalar', 'add_scalars', 'add_image', 'add_datasample')  # a visualizer


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook``, such that a kill or a full disk loses nothing.

    A drop-in: ``default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook',
    interval=1, max_keep_ckpts=3))``.

    - A checkpoint is written under another name, flushed to the disk, and renamed
      (:class:`AtomicBackend`). Older ones are deleted after it is safe, so there must
      be room for ``max_keep_ckpts + 1``.
    - A write that fails (disk full, quota, stale network drive) is a warning; training
      goes on and the next interval tries again. Only if the last one of a run fails,
      the last state is written at the end, under the name of that checkpoint or, after
      more iterations, as ``interrupted_iter_N.pth``. If this fails, too, it is an
      error. Curves and pictures that cannot be written are left out.
    - ``resume=True`` without a file (``--resume auto``) takes the newest whole
      checkpoint, with or without the file ``last_checkpoint``, and says which damaged
      ones it skips. ``FlexibleRunner`` loads before hooks run: give it
      :func:`find_resumable_checkpoint` as ``load_from``.

    Args:
        **kwargs: Those of :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ConfigurationError: If checkpoints should go to an object store: ``out_dir``
            must be a folder of the file system.
        OSError: After training, if the last state could not be written.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        backend = (self.backend_args or {}).get('backend', 'local')
        if '://' in str(self.out_dir) or self.file_client_args or backend != 'local':
            raise ConfigurationError(
                'SafeCheckpointHook writes to folders of the file system only, but has '
                f'out_dir={self.out_dir!r}, backend_args={self.backend_args!r}, '
                f'file_client_args={self.file_client_args!r}; mount the store as a '
                "folder, or use type='CheckpointHook', which cannot resume safely.")
        self.configured_out_dir = self.out_dir
        self.meta: Optional[dict] = None  # of the checkpoint that is being written
        self.outdated: list = []  # names, of the checkpoint resumed from

    def before_run(self, runner) -> None:
        """Choose the checkpoint to resume from, the same on all ranks."""
        if runner._resume is True and runner._load_from is None:
            runner._load_from = from_main_process(lambda: find_resumable_checkpoint(
                runner.work_dir, self.configured_out_dir))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Learn what an interrupted process had no time to delete."""
        if runner._resume:
            self.outdated = checkpoint.pop(OUTDATED, [])

    def before_train(self, runner) -> None:
        """Clean up after a kill."""
        super().before_train(runner)
        AtomicBackend.register()
        self.file_backend = DeletesLater()
        self.saved_iter: Optional[int] = None  # in the newest checkpoint
        self.unsaved: Optional[tuple] = None  # arguments of a failed save
        for name in DRAWS:
            setattr(runner.visualizer, name, tolerant(getattr(runner.visualizer, name)))
        if not is_main_process():
            return
        for folder in checkpoint_folders(runner.work_dir, self.configured_out_dir):
            for leftover in glob(osp.join(escape(folder), f'.*{PARTIAL}*')):
                delete(leftover)
        for name in self.outdated:
            delete(osp.join(self.out_dir, name))
        earlier = glob(osp.join(escape(str(self.out_dir)), '*.pth'))
        if earlier and runner.iter == 0:
            advice = ('--resume cannot go on from them, since they hold weights alone'
                      if runner._resume else '--resume would go on from them')
            runner.logger.warning(
                f'{self.out_dir} has checkpoints of an earlier run '
                f'({listed(sorted(map(osp.basename, earlier)), 3)}), which this one '
                f'will overwrite; {advice}.')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Note what is to be deleted when this checkpoint is safe."""
        checkpoint[OUTDATED] = list(map(osp.basename, self.file_backend.outdated))
        if self.meta:  # FlexibleRunner replaces it
            checkpoint['meta'].update(self.meta)

    def save_interrupted(self, runner, meta: dict) -> None:
        """Write ``interrupted_iter_N.pth`` between the intervals; call it on all ranks.

        It is deleted when the next regular one is safe. ``meta`` has ``epoch`` and
        ``iter``: how many are complete.
        """
        if self.saved_iter == meta['iter']:
            return
        name = INTERRUPTED.format(meta['iter'])
        with self._all_or_nothing(runner, name, meta):
            self.last_ckpt = osp.join(self.out_dir, name)
            runner.message_hub.update_info('last_ckpt', self.last_ckpt)
            runner.save_checkpoint(
                self.out_dir, name, save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=dict(meta), by_epoch=False, **self.args)
            if is_main_process():
                write_atomically(
                    osp.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)

    def after_train(self, runner) -> None:
        """Give a failed last save of the run a second chance."""
        if self.unsaved and self.unsaved[1]['iter'] == runner.iter:
            self._save_checkpoint_with_step(runner, *self.unsaved)
        elif self.unsaved:  # the weights are newer, the run ended between intervals
            self.save_interrupted(runner, dict(epoch=runner.epoch, iter=runner.iter))
        if self.unsaved:
            raise OSError(f'The last checkpoint of the run, of iteration {runner.iter},'
                          f' could not be written to {self.out_dir}.')
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        self.unsaved = step, dict(meta)
        with self._all_or_nothing(runner, self.filename_tmpl.format(step), meta):
            self.file_backend.outdated += glob(
                osp.join(escape(str(self.out_dir)), INTERRUPTED.format('*')))
            super()._save_checkpoint_with_step(runner, step, dict(meta))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if self.save_best:
            with self._all_or_nothing(runner, 'the best checkpoint'):
                super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _all_or_nothing(self, runner, what: str,
                        meta: Optional[dict] = None) -> Iterator[None]:
        """Delete what is outdated after all writes; if one fails, undo the rest.

        ``meta`` is that of a checkpoint to resume from.
        """
        info, backend = runner.message_hub.runtime_info, self.file_backend
        info_before, outdated_before = dict(info), list(backend.outdated)
        own_before = {name: copy.copy(getattr(self, name))
                      for name in CHANGED if hasattr(self, name)}
        self.meta, error = meta and dict(meta), None
        if meta:
            runner.call_hook('before_save_on_all_ranks')
        try:
            yield
        except OSError as caught:
            error = str(caught)
        self.meta = None
        errors = list(filter(None, all_gather_object(error)))
        if errors:
            backend.outdated = outdated_before
            for name, value in own_before.items():
                setattr(self, name, value)
            info.clear()
            info.update(info_before)
            runner.logger.warning(
                f'Could not write {what} to {self.out_dir}: {errors[0]}. Training goes '
                'on and tries again at the next interval; the newest complete '
                f'checkpoint is {info.get("last_ckpt")}.')
            return
        if meta:
            self.unsaved, self.saved_iter = None, meta['iter']
        if is_main_process():
            if osp.isdir(str(self.last_ckpt)):
                write_atomically(osp.join(self.last_ckpt, COMPLETE), '')
            backend.delete_outdated()
        backend.outdated = []


def tolerant(write: Callable) -> Callable:
    """Make a full disk cost a curve or a picture, not the training.

    The text log needs no help: Python's logging goes on by itself.
    """

    @wraps(write)
    def attempt(*args, **kwargs) -> None:
        try:
            write(*args, **kwargs)
        except OSError as error:
            warn(f'Could not write curves or pictures: {error}. Training goes on.')

    return attempt
