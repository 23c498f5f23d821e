"""Checkpoints that are never lost or half-written."""
import copy
import os.path as osp
from collections import deque
from contextlib import contextmanager
from glob import escape, glob
from typing import Iterator, List, Optional

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from ...utils.errors import ConfigurationError
from .atomic_saves import (AtomicSaves, NotWritten, RemoveLater,
                           raised_on_all_ranks)
from .checkpoint_files import (PARTIAL, find_resumable_checkpoint, remove,
                               write_text)
from .tolerant_logging import tolerate_failed_writes

INTERRUPTED = 'interrupted_iter_{}.pth'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook``, such that a kill or a full disk loses nothing.

    A drop-in: ``default_hooks = dict(checkpoint=dict(
    type='SafeCheckpointHook', interval=1, max_keep_ckpts=3))``.

    - A checkpoint is written as ``NAME.partial``, flushed to the disk, and
      renamed. ``last_checkpoint`` changes after that, as a whole.
    - Older checkpoints are deleted after the new one is safe. So there must
      be room for ``max_keep_ckpts + 1``.
    - A write that fails (disk full, quota, stale network drive) is a warning;
      training goes on and the next interval tries again. Only the last one
      of a run is tried a second time, and then is an error. Curves and
      pictures that cannot be written are left out.
    - ``resume=True`` without a file (``--resume auto``) skips a damaged newest
      checkpoint and takes the one before, saying so. ``FlexibleRunner`` loads
      before hooks run: give it :func:`find_resumable_checkpoint` as
      ``load_from``.

    Where checkpoints go to an object store (``out_dir='s3://...'``), whole
    writes are left to that.

    Args:
        **kwargs: Those of :class:`mmengine.hooks.CheckpointHook`.
    """

    def before_run(self, runner) -> None:
        """Choose the checkpoint to resume from, the same on all ranks."""
        if runner._resume is not True or runner._load_from is not None:
            return
        found = [None]
        if is_main_process():
            try:
                found = [find_resumable_checkpoint(runner.work_dir)]
            except ConfigurationError as error:
                found = [error]
        broadcast_object_list(found)
        if isinstance(found[0], ConfigurationError):
            raise found[0]
        runner._load_from = found[0]

    def before_train(self, runner) -> None:
        """Clean up after a kill."""
        super().before_train(runner)
        tolerate_failed_writes(runner.visualizer)
        self.saved_iter: Optional[int] = None  # in the newest checkpoint
        self.unsaved: Optional[tuple] = None  # arguments of a failed save
        self.is_local = isinstance(self.file_backend, LocalBackend)
        if is_main_process():
            for leftover in self._files(f'*.pth{PARTIAL}'):
                remove(leftover)

    def save_interrupted(self, runner, meta: dict) -> None:
        """Write a checkpoint between the intervals; call it on all ranks.

        It is named ``interrupted_iter_N.pth`` and is deleted when the next
        regular one is safe.

        Args:
            runner (Runner): The runner.
            meta (dict): ``epoch`` and ``iter``: how many are complete.
        """
        if self.saved_iter != meta['iter']:
            self._save(runner, INTERRUPTED.format(meta['iter']), meta)

    def after_train(self, runner) -> None:
        """Give a failed last save of the run a second chance."""
        if self.unsaved:
            self._save(runner, *self.unsaved)
        if self.unsaved:
            raise OSError(
                f'The last checkpoint of the run, {self.unsaved[0]}, could not '
                f'be written to {self.out_dir}.')
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        self._save(runner, self.filename_tmpl.format(step), meta, step)

    def _save(self,
              runner,
              filename: str,
              meta: dict,
              step: Optional[int] = None) -> None:
        """Save; then, and only then, let go of what this replaces."""
        hub = runner.message_hub
        pointer = osp.join(runner.work_dir, 'last_checkpoint')
        if not isinstance(runner, AtomicSaves):
            runner = AtomicSaves(runner, self.is_local)
        self.unsaved = (filename, dict(meta), step)
        with self._all_or_nothing(runner, filename):
            self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
            hub.update_info('last_ckpt', self.last_ckpt)
            outdated = self._outdated_with(step, hub)
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch and step is not None,
                backend_args=self.backend_args,
                **self.args)
            with raised_on_all_ranks(pointer + PARTIAL):
                if is_main_process():
                    write_text(pointer, self.last_ckpt)
            if self.max_keep_ckpts > 0:
                hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            if is_main_process():
                for name in outdated:
                    self.file_backend.remove(
                        self.file_backend.join_path(self.out_dir, name))
            self.unsaved, self.saved_iter = None, meta['iter']

    def _outdated_with(self, step: Optional[int], hub) -> List[str]:
        """Names of the files that a regular checkpoint makes superfluous."""
        if step is None:
            return []
        names = list(map(osp.basename, self._files(INTERRUPTED.format('*'))))
        if self.max_keep_ckpts > 0:
            keep = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
            # The checkpoint lists the outdated ones too: if the run is killed
            # before it deletes them, the resumed run does.
            hub.update_info('keep_ckpt_ids', keep)
            names += map(self.filename_tmpl.format, keep[:-self.max_keep_ckpts])
            self.keep_ckpt_ids = deque(keep, self.max_keep_ckpts)
        return names

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not self.save_best:
            return
        with self._all_or_nothing(runner, 'the best checkpoint'):
            super()._save_best_checkpoint(
                AtomicSaves(runner, self.is_local), metrics)

    @contextmanager
    def _all_or_nothing(self, runner, what: str) -> Iterator[None]:
        """Delete files only after all writes; if one fails, undo the rest."""
        info, backend = runner.message_hub.runtime_info, self.file_backend
        info_before, own = dict(info), copy.copy(vars(self))
        if 'best_ckpt_path_dict' in own:
            own['best_ckpt_path_dict'] = dict(self.best_ckpt_path_dict)
        self.file_backend = RemoveLater(backend)
        try:
            yield
            self.file_backend.remove_now()
            self.file_backend = backend
        except NotWritten as error:
            self.__dict__.update(own)
            info.clear()
            info.update(info_before)
            runner.logger.warning(
                f'Could not write {what} to {self.out_dir}: {error}. Training '
                'goes on and tries again at the next interval; the newest '
                f'complete checkpoint is {info.get("last_ckpt")}.')

    def _files(self, pattern: str) -> List[str]:
        """Local checkpoint files that match."""
        if not self.is_local:
            return []
        return glob(osp.join(escape(str(self.out_dir)), pattern))
