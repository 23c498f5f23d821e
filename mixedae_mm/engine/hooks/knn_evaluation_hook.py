"""k-NN accuracy on labelled images while a model pre-trains."""
from math import inf
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Subset

from ...datasets import checks
from ...utils.checks import check_count, check_number
from ...utils.errors import ConfigurationError
from ...utils.random import own_random_numbers
from ...utils.undisturbed import evaluating
from ..resume.rank_state import bare, is_fsdp
from .probe_hook import is_due

if TYPE_CHECKING:
    from ...analysis.frozen_features import LabelledFeatures


@HOOKS.register_module()
class KNNEvaluationHook(Hook):
    """Classify labelled images by their nearest neighbours at intervals.

    Features are frozen, standardised and compared by cosine; see
    :func:`~mixedae_mm.analysis.frozen_classifiers.knn_predict`. Training is not
    touched: random generators, module modes and weights are afterwards what they were
    before, and nothing runs between two evaluations. With several processes each
    encodes a share of the images. Weights sharded by FSDP cannot be evaluated this way,
    which is logged once.

    The log gets one line; TensorBoard, ``vis_data/scalars.json`` and other
    visualisation backends get ``knn_accuracy``, in percent. ::

        labelled = dict(type='CustomDataset', data_root='data/animals', pipeline=[
            dict(type='LoadImageTensor'),
            dict(type='EvaluationCrop', size=224),
            dict(type='PackInputs')])
        custom_hooks = [dict(
            type='KNNEvaluationHook', interval=5000,
            train_dataset=dict(data_prefix='train', **labelled),
            test_dataset=dict(data_prefix='val', **labelled))]

    Args:
        train_dataset (dict | BaseDataset): Any labelled data set of mmpretrain: the
            neighbours. Its pipeline should be that of a test, with the colours in the
            order of the training.
        test_dataset (dict | BaseDataset): The images to be classified.
        interval (int): Iterations between two evaluations. The last one is after the
            last iteration.
        k (int): Neighbours that vote.
        temperature (float): Of their weights, above 0.
        readout (str, optional): Which features, as ``layer_06/cls``; by default the
            mean of the patch tokens after the last layer.
        max_images (int, optional): Largest number of images of each set, evenly spread
            over it; all by default.
        batch_size (int): Images per step and process.
        num_workers (int): Processes that load images.

    Raises:
        ConfigurationError: If a number is not allowed or, before training, if the
            images have no labels, there are fewer than ``k``, one label stands for
            different classes in the two sets, or there is not such a ``readout``.
    """
    priority = 'LOW'  # after the line of the iteration has been logged

    def __init__(self, train_dataset: Union[dict, BaseDataset],
                 test_dataset: Union[dict, BaseDataset], interval: int = 5000,
                 k: int = 20, temperature: float = 0.07, readout: Optional[str] = None,
                 max_images: Optional[int] = None, batch_size: int = 128,
                 num_workers: int = 0) -> None:
        for name, count, least in (
                ('interval', interval, 1), ('k', k, 1), ('batch_size', batch_size, 1),
                ('max_images', 1 if max_images is None else max_images, 1),
                ('num_workers', num_workers, 0)):
            check_count(f'{name} of KNNEvaluationHook', count, least)
        check_number('temperature of KNNEvaluationHook', temperature,
                     lambda number: 0 < number < inf, 'be a number above 0')
        self.train_dataset, self.test_dataset = train_dataset, test_dataset
        self.interval, self.k, self.temperature = interval, k, temperature
        self.readout, self.max_images = readout, max_images
        self.loading: Dict[str, Any] = dict(
            batch_size=batch_size, num_workers=num_workers)
        self.is_off = False

    def before_train(self, runner: Runner) -> None:
        """Build the data sets, so that what is wrong with them shows now."""
        self.is_off = is_fsdp(runner.model)
        if self.is_off:
            runner.logger.warning(
                'KNNEvaluationHook is off: a model that FSDP has sharded cannot '
                'be read layer by layer. Evaluate its checkpoints with '
                'tools/analysis_tools/knn_and_probe.py instead.')
            return
        self.train_dataset = self._prepared('train_dataset', bare(runner.model))
        self.test_dataset = self._prepared('test_dataset', bare(runner.model))
        checks.check_same_classes(
            self.train_dataset, self.test_dataset,
            'train_dataset of KNNEvaluationHook', 'test_dataset')
        if len(self.train_dataset) < self.k:
            raise ConfigurationError(
                f'KNNEvaluationHook lets {self.k} neighbours vote, but '
                f'train_dataset has {len(self.train_dataset)} images.')
        for dataset in (self.train_dataset, self.test_dataset):
            self._extract(runner, Subset(dataset, [0]))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        """Evaluate every ``interval`` iterations and after the last one."""
        if not self.is_off and is_due(self, runner):
            self.evaluate(runner, step=runner.iter + 1)

    def evaluate(self, runner: Runner, step: int) -> None:
        """Classify the test images and log the accuracy."""
        from ...analysis.frozen_classifiers import knn_accuracy
        train = self._extract(runner, self.train_dataset)
        test = self._extract(runner, self.test_dataset)
        readout, = train.features
        percent = 100 * knn_accuracy(train, test, readout, self.k, self.temperature)
        runner.logger.info(f'{self.k}-NN accuracy [%] after {step} iterations on '
                           f'{len(test.labels)} images, {readout}: {percent:.2f}')
        runner.visualizer.add_scalars(dict(knn_accuracy=round(percent, 3)), step=step)

    def _extract(self, runner: Runner, dataset: BaseDataset) -> 'LabelledFeatures':
        from ...analysis.frozen_features import default_readout, extract_features
        model = bare(runner.model)
        with own_random_numbers(runner.seed), evaluating(model):
            readout = self.readout or default_readout(model.backbone)
            return extract_features(model, dataset, [readout], **self.loading)

    def _prepared(self, argument: str, model: nn.Module) -> BaseDataset:
        from ...analysis.frozen_features import build_labelled_dataset
        from ...analysis.loading import spread
        given, name = getattr(self, argument), f'{argument} of KNNEvaluationHook'
        try:
            dataset = build_labelled_dataset(given)
        except Exception:
            checks.explain_failure(given, name)
            raise
        checks.check_not_empty(dataset, name)
        checks.check_samples(dataset, name, model=model)
        if self.max_images is None or self.max_images >= len(dataset):
            return dataset
        # Not the first ones: folders are sorted by class.
        return Subset(dataset, spread(range(len(dataset)), self.max_images))
