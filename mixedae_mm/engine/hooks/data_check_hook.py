"""Data that cannot work with the model, refused before the first step."""
from typing import Any, Dict, Optional, Sequence, Set, Tuple

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ...datasets import checks
from ..resume.rank_state import bare


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Compare data sets with each other, with the model and with the metrics.

    Without it, other class names end in wrong results, wrong class numbers in
    an index error of a loss or a device assertion, a metric that cannot be
    computed in an error after the first epoch, and a missing annotation folder
    in the traceback of a worker. What is checked is in
    :mod:`mixedae_mm.datasets.checks`.

    ``tools/train.py`` and ``tools/test.py`` check whether a config names this
    hook or not, and before mmengine builds what depends on the number of
    batches.

    Raises:
        ConfigurationError: Before training or testing, if the data cannot
            work.
    """
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.done: Set[Tuple[str, bool]] = set()
        self.trained_classes: Sequence[str] = ()

    @classmethod
    def of(cls, runner: Runner) -> 'DataCheckHook':
        """The runner's hook; registers one if there is none."""
        for hook in runner.hooks:
            if isinstance(hook, cls):
                return hook
        hook = cls()
        runner.register_hook(hook)
        return hook

    def before_train(self, runner: Runner) -> None:
        self.check(runner, 'train', 'val')
        if getattr(runner, '_resume', False):
            self._check_positions(runner, 'train')

    def before_val(self, runner: Runner) -> None:
        self.check(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        self.check(runner, 'test')
        self._check_positions(runner, 'test')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember what the checkpoint says of the classes it was trained on."""
        meta = checkpoint.get('meta') or {}
        data = meta.get('dataset_meta') if isinstance(meta, dict) else None
        self.trained_classes = (data or {}).get('classes') or ()

    def check(self, runner: Runner, *modes: str) -> None:
        """Build the loops and check their data, once.

        Args:
            runner (Runner): With a built model or, as a FlexibleRunner before
                it runs, without.
            *modes (str): ``'train'``, ``'val'`` or ``'test'``; those that the
                runner does not have are left out.
        """
        model = bare(runner.model) if isinstance(runner.model, nn.Module) else None
        built = {mode: getattr(runner, f'{mode}_loop', None) for mode in modes}
        loops = {mode: loop for mode, loop in built.items() if loop is not None}
        for mode, loop in loops.items():
            if (mode, model is not None) not in self.done:
                self.done.add((mode, model is not None))
                _check_loop(loop, mode, model, _evaluated_file(runner, mode))
        if 'train' in loops and 'val' in loops and not retrieves(model):
            checks.check_same_classes(
                loops['train'].dataloader.dataset, loops['val'].dataloader.dataset,
                'train_dataloader', 'val_dataloader')

    def _check_positions(self, runner: Runner, mode: str) -> None:
        if not retrieves(bare(runner.model)):
            checks.check_positions(
                self.trained_classes,
                getattr(runner, f'{mode}_loop').dataloader.dataset,
                f'{mode}_dataloader')


def retrieves(model: Optional[nn.Module]) -> bool:
    """Whether it is tested on images of other classes than it is trained on."""
    return hasattr(model, 'prototype')  # mmpretrain's ImageToImageRetriever


def heads_of(model: Optional[nn.Module]) -> Dict[str, int]:
    """Parts that know how many classes a data set has, with the number."""
    heads = {}
    for name, module in model.named_modules() if model is not None else ():
        number = getattr(module, 'num_classes', None)
        # mmpretrain's preprocessor makes one-hot labels of mixup. A region
        # proposal has one class, object; a semantic branch has its own.
        if isinstance(number, int) and number > 0 and (
                'head' in name or name == 'data_preprocessor') and not any(
                    other in name for other in ('rpn', 'semantic', 'loss')):
            heads[name] = number
    # The heads first: refusals name the first part that does not fit.
    return dict(sorted(heads.items(), key=lambda item: 'head' not in item[0]))


def _evaluated_file(runner: Runner, mode: str) -> str:
    """The annotation file that the config gives a metric, or that option's name."""
    metrics = runner.cfg.get(f'{mode}_evaluator') or []
    for metric in metrics if isinstance(metrics, list) else [metrics]:
        if isinstance(metric, dict) and metric.get('ann_file'):
            return metric['ann_file']
    return f'{mode}_evaluator.ann_file'


def _check_loop(loop: Any, mode: str, model: Optional[nn.Module],
                evaluated_file: str) -> None:
    loader, name, evaluator = loop.dataloader, f'{mode}_dataloader', f'{mode}_evaluator'
    dataset, heads = loader.dataset, heads_of(model)
    checks.check_not_empty(dataset, name)
    checks.check_left_out(dataset, name)
    preprocessor = getattr(model, 'data_preprocessor', None)
    checks.check_batches(
        loader, name, mode != 'train' or isinstance(loop, EpochBasedTrainLoop),
        getattr(preprocessor, 'num_sources', 1) if mode == 'train' else 1,
        evaluates=mode != 'train')
    checks.check_folder_names(dataset, name)
    checks.check_coco(dataset, name)
    if mode == 'train' or not retrieves(model):
        checks.check_num_classes(dataset, heads, name)
        checks.check_label_range(dataset, heads, name)
    checks.check_samples(dataset, name, {
        head: number for head, number in heads.items() if 'head' in head},
        getattr(getattr(model, 'decode_head', None), 'ignore_index', 255), model)
    metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
    checks.check_topk([one for one in metrics if type(one).__name__ == 'Accuracy'],
                      heads, evaluator)
    checks.check_iou(metrics, evaluator)
    for metric in metrics:
        checks.check_coco_metric(metric, checks.declared_names(dataset), evaluated_file)
    if mode == 'train' and model is not None:
        checks.check_topk(
            [part for part in model.modules() if getattr(part, 'cal_acc', False)],
            heads, 'model')
