"""TopK sampling accuracy as curves of the training run."""
from mmengine.dist import master_only
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.undisturbed import evaluating
from ..resume.rank_state import bare
from .probe_hook import ProbeHook


@HOOKS.register_module()
class TopKAccuracyHook(ProbeHook):
    """Log the TopK sampling accuracy of each layer at intervals (Fig. 6).

    Measured on some training images, with the same crops and masks every time, in
    float32 and evaluation mode; see :class:`ProbeHook` for why that does not change the
    training. The first measurement is of the untrained model.

    The log gets one line. TensorBoard, ``vis_data/scalars.json`` and other
    visualisation backends get ``topk_accuracy/layer_01`` and so on, in percent.

    Args:
        interval (int): Iterations between two measurements.
        num_images (int): Clean images to measure on, at least one group.
        seed (int): Of the choice of images, their crops and the masks.

    Raises:
        ConfigurationError: If ``interval`` or ``num_images`` is below 1, or, before
            training, ``num_images`` below the size of a group.
    """

    def __init__(self, interval: int = 1000, num_images: int = 64,
                 seed: int = 0) -> None:
        super().__init__(interval, num_images, seed)

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Load the images; measure, unless the run is being resumed."""
        super().before_train(runner)
        if runner.iter == 0 and self.images is not None:
            self.probe(runner, bare(runner.model), step=0)

    def probe(self, runner: Runner, model: BaseModel, step: int) -> None:
        """Measure and log."""
        from ...analysis.attention_probe import topk_sampling_accuracy
        from ...analysis.probe_batch import mix_for_probing
        assert self.images is not None  # loaded before training
        with evaluating(model):
            batch = mix_for_probing(model, self.images, self.seed)
            accuracy = 100 * topk_sampling_accuracy(
                model.backbone, batch.mixed, batch.mix_mask)
        runner.logger.info(
            f'TopK sampling accuracy [%] after {step} iterations, layer 1 to '
            f'{len(accuracy)}, chance {100 / batch.num_sources:.3g}: ' +
            '  '.join(f'{percent:.1f}' for percent in accuracy))
        runner.visualizer.add_scalars(
            {f'topk_accuracy/layer_{layer:02d}': round(percent, 3)
             for layer, percent in enumerate(accuracy.tolist(), start=1)}, step=step)
