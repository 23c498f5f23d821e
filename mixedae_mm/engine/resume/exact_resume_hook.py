"""Resume a run such that it equals one that was never interrupted."""
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ...utils.random import seed_generators
from .config_schedules import follow_config
from .gradient_buckets import settle_gradient_buckets
from .rank_state import gather, is_sharded, restore, window_is_open
from .resumable_loading import endless_batches, resumable
from .run_setting import check_optimizer_state, report_changes, run_setting

STATE = 'exact_resume'  # our entry in a checkpoint: plain types and tensors
STEP, EPOCH_START, EVALUATION = range(3)  # uses of random numbers


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make interrupted and uninterrupted training the same computation.

    ``custom_hooks = [dict(type='ExactResumeHook')]`` is all it takes, with epoch- and
    iteration-based loops, any checkpoint interval (also within an epoch) and any number
    of dataloader workers. On CPU in float32 the result is equal in every bit; on CUDA
    as far as the kernels are deterministic (``randomness = dict(deterministic=True)``).

    All generators are seeded at every step from (seed of the rank, step), and before
    every sample from (seed, epoch, place in the sampler's order): evaluation, hooks,
    workers and restarts cannot shift them, and no generator's state needs saving.
    Loading starts at the batch after the checkpoint, without the batches before it. A
    checkpoint within an accumulation window has the gradients of all ranks (each as
    large as the model; intervals that are multiples of ``accumulative_counts`` avoid
    it), and every checkpoint has the buffers that are not rank 0's. DDP adds in one
    order, see :func:`settle_gradient_buckets`. An evaluation that was due at the
    checkpoint is run (again): its result may decide about schedules, stopping and the
    best checkpoint.

    With other processes or batch sizes than before, training goes on at the same image
    of the epoch, and a warning says what is no longer exact. Rates and schedules are
    those of the present config, see :func:`follow_config`. Not restored: generators and
    state that a component keeps for itself and leaves out of its ``state_dict``.

    Args:
        repeat_evaluation (bool): False saves the time of that evaluation, where it
            takes long and nothing depends on it.

    Raises:
        ConfigurationError: On resuming, if the optimizer is of another type, or its
            state has other shapes than the parameters.
    """

    # Last: what other hooks draw before a step does not change the step.
    priority = 'LOWEST'

    def __init__(self, repeat_evaluation: bool = True) -> None:
        self.repeat_evaluation = repeat_evaluation
        self.state: Optional[dict] = None  # of the checkpoint resumed from
        self.rank_state: Optional[dict] = None  # while a checkpoint is written
        self.first_iter = self.first_batch = 0  # where this process started

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read our state; adapt the checkpoint to other processes."""
        if not runner._resume:
            return
        now, meta = run_setting(runner), checkpoint['meta']
        if STATE not in checkpoint:
            runner.logger.warning(
                'The checkpoint was written without ExactResumeHook: random numbers '
                'and augmentation are not those of the first run.')
        state = self.state = {
            **now, 'samples': self._batches_done(runner, meta) * now['total_batch'],
            'evaluated': False, 'gradients': None, 'buffers': None,
            **checkpoint.get(STATE, {})}  # older checkpoints say less
        report_changes(runner.logger, state, now)
        whose = (
            'other processes' if state['world_size'] != now['world_size'] else
            f"windows of {state['accumulative_counts']} batches"
            if state['accumulative_counts'] != now['accumulative_counts'] else '')
        if state['gradients'] and whose:
            runner.logger.warning('The gradients of the open accumulation window are '
                                  f'dropped: they belong to {whose}.')
            state['gradients'] = None
        if state['world_size'] != now['world_size']:
            state['buffers'] = None
        self.first_batch = state['samples'] // now['total_batch']
        length = now['batches_per_epoch']
        if (isinstance(runner.train_loop, EpochBasedTrainLoop)
                and length != state['batches_per_epoch']):
            self.first_batch = min(self.first_batch, length)
            meta['iter'] = meta['epoch'] * length + self.first_batch
        self.first_iter = meta['iter']
        follow_config(runner, checkpoint)

    def before_train(self, runner) -> None:
        """Take the data loading over; repeat an evaluation that was cut short."""
        loop, state = runner.train_loop, self.state or {}
        sampler: Any = getattr(loop.dataloader.batch_sampler, 'sampler', None)
        if state.get('sampler_seed') is not None:
            sampler.seed = state['sampler_seed']
        loader = None
        if isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            loader = resumable(loop.dataloader, getattr(sampler, 'seed', runner.seed))
        self.loads_exactly = loader is not None
        if loader is None:
            runner.logger.warning(
                'This loop or its dataloader cannot start in the middle: a resumed run '
                'does not see the images of an uninterrupted one.')
        else:
            loop.dataloader = loader
            if isinstance(loop, IterBasedTrainLoop):
                # mmengine 0.10.7 skips by asking for every batch.
                asks = not hasattr(loop, 'fast_forward_on_resume')
                loop.dataloader_iterator = endless_batches(
                    loader, self.first_batch, loop.iter if asks else 0)
        settled = settle_gradient_buckets(runner.model)
        if not state:
            return
        if not settled and get_world_size() > 2:
            runner.logger.warning(
                'DDP with static_graph among more than two processes sums the first '
                'step after a restart in another order: not exact.')
        check_optimizer_state(runner)
        gradients = state.pop('gradients')
        restore(runner.model, gradients, state.pop('buffers'))
        if gradients:
            runner.logger.info('The open accumulation window goes on with the '
                               'gradients in the checkpoint.')
        if (not state['evaluated'] and self.repeat_evaluation
                and self._evaluation_due(runner)):
            runner.logger.info('Running the evaluation that was due when the '
                               'checkpoint was written.')
            runner.val_loop.run()

    def before_train_epoch(self, runner) -> None:
        """Start an epoch, the first one where the checkpoint was."""
        seed_generators(runner.seed, runner.iter, EPOCH_START)
        loop, first = runner.train_loop, self.first_batch
        if not isinstance(loop, EpochBasedTrainLoop) or not self.loads_exactly:
            return
        loop.dataloader.batch_sampler.start_pass(runner.epoch, first)
        if first:  # batches keep their numbers within the epoch, for the log
            run_iter = loop.run_iter
            loop.run_iter = lambda idx, batch: run_iter(idx + first, batch)

    def after_train_epoch(self, runner) -> None:
        """Only the first epoch starts late."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self.first_batch = 0
            vars(runner.train_loop).pop('run_iter', None)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Give the step its random numbers: mixing masks, drop path, ..."""
        seed_generators(runner.seed, runner.iter, STEP)

    def before_val(self, runner) -> None:
        """Give an evaluation its own, repeatable random numbers."""
        seed_generators(runner.seed, runner.iter, EVALUATION)

    def before_save_on_all_ranks(self, runner) -> None:
        """Called by :class:`SafeCheckpointHook` before it saves."""
        if not is_sharded(runner):  # where no rank has whole tensors
            self.rank_state = gather(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add our state: plain types and tensors, for safe loading."""
        if not {'optimizer', 'param_schedulers'} & checkpoint.keys():
            return  # the best one, from which nothing is resumed
        if get_world_size() == 1 and self.rank_state is None:
            self.before_save_on_all_ranks(runner)
        if not self.rank_state and window_is_open(runner.optim_wrapper):
            runner.logger.warning(
                'This checkpoint cuts an accumulation window and lacks its gradients, '
                'so that a resume from it is not exact: with several processes this '
                'needs SafeCheckpointHook, and no sharding.')
        now = run_setting(runner)
        batches = self._batches_done(runner, checkpoint['meta'])
        checkpoint[STATE] = dict(
            now, samples=batches * now['total_batch'],
            evaluated=runner.message_hub.get_info('loop_stage') == 'val',
            **(self.rank_state or dict(gradients=None, buffers=None)))
        self.rank_state = None

    def _batches_done(self, runner, meta: dict) -> int:
        """Batches consumed of this pass, or of an iteration-based run."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            return meta['iter'] - meta['epoch'] * len(runner.train_dataloader)
        return self.first_batch + meta['iter'] - self.first_iter

    def _evaluation_due(self, runner) -> bool:
        """Whether the loop evaluates at the point where it resumes."""
        loop, done, end = runner.train_loop, runner.iter, runner.max_iters
        if isinstance(loop, EpochBasedTrainLoop):
            if self.first_batch:
                return False
            done, end = runner.epoch, runner.max_epochs
        if runner.val_loop is None or done < max(loop.val_begin, 1):
            return False
        loop._decide_current_val_interval()
        return done % loop.val_interval == 0 or done == end
