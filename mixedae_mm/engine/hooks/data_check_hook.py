"""Data that cannot work with the model, refused before the first step."""
import os
from typing import Iterator, Tuple

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from ...utils.errors import ConfigurationError

# Files of a sample, by the names that the toolboxes' datasets give them.
FILES = ('img_path', 'seg_map_path')


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Compare datasets with the heads, and see whether their files are there.

    Without it, wrong class numbers end in an index error of a loss, a device
    assertion or, if there are too few, in nothing but bad results, and a
    missing annotation folder in the traceback of a worker.

    Raises:
        ConfigurationError: Before training or testing, if a dataset is
            empty, the first sample's files do not exist, or a head predicts
            another number of classes than the dataset has.
    """

    def before_train(self, runner) -> None:
        self._check(runner, runner.train_loop.dataloader, 'train_dataloader')
        if runner.val_loop is not None:
            self._check(runner, runner.val_loop.dataloader, 'val_dataloader')

    def before_val(self, runner) -> None:
        self._check(runner, runner.val_loop.dataloader, 'val_dataloader')

    def before_test(self, runner) -> None:
        self._check(runner, runner.test_loop.dataloader, 'test_dataloader')

    @staticmethod
    def _check(runner, dataloader, name: str) -> None:
        dataset = dataloader.dataset
        kind = f'The {type(dataset).__name__} of {name}'
        if len(dataset) == 0:
            raise ConfigurationError(
                f'{kind} has no samples; is its data_root right?')
        sample = dataset.get_data_info(0) if hasattr(
            dataset, 'get_data_info') else {}
        for key in FILES:
            path = sample.get(key)
            if path and '://' not in path and not os.path.isfile(path):
                raise ConfigurationError(
                    f'{kind} names {path}, which does not exist.')
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if classes is None:
            return
        for head, num_classes in _heads(runner.model):
            if num_classes != len(classes):
                raise ConfigurationError(
                    f'{kind} has {len(classes)} classes, but the model '
                    f'predicts {num_classes} ({head}.num_classes).')


def _heads(model: nn.Module) -> Iterator[Tuple[str, int]]:
    """Parts that know how many classes a dataset has, with the number."""
    if is_model_wrapper(model):
        model = model.module
    for name, module in model.named_modules():
        number = getattr(module, 'num_classes', None)
        # mmpretrain's preprocessor makes one-hot labels of mixup; a region
        # proposal has one class: object.
        if isinstance(number, int) and 'rpn' not in name and (
                'head' in name or name == 'data_preprocessor'):
            yield name, number
