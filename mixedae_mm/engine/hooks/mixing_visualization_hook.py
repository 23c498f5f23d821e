"""Figures of mixing and reconstruction during training."""
from functools import partial
from typing import Optional, Sequence

from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import MLflowVisBackend

from ...models import MixedAE
from ...utils.errors import ConfigurationError
from ..resume.rank_state import bare
from .probe_hook import ProbeHook


@HOOKS.register_module()
class MixingVisualizationHook(ProbeHook):
    """Draw a group of training images at intervals.

    Mask and mixed sample, clean images, unmixed inputs and reconstructions, with the
    same crops and mask every time, so that the figures can be compared; see
    :class:`ProbeHook` for why that does not change the training. They go to every
    visualisation backend: TensorBoard, and ``vis_data/vis_image/mixing_*.png`` in the
    work folder.

    Args:
        interval (int): Iterations between two figures.
        seed (int): Of the choice of images, their crops and the mask.
        channels (sequence[int], optional): Drawn as red, green and blue; see
            :func:`~mixedae_mm.analysis.panels.mixing_panel`.

    Raises:
        ConfigurationError: If ``interval`` is below 1, or, before training,
            if the model is not MixedAE.
    """

    def __init__(self, interval: int = 5000, seed: int = 0,
                 channels: Optional[Sequence[int]] = None) -> None:
        super().__init__(interval, num_images=1, seed=seed)
        self.channels = channels

    def before_train(self, runner: Runner) -> None:
        """Load one group of images; check the model in every process."""
        model = bare(runner.model)
        if not isinstance(model, MixedAE):
            raise ConfigurationError(
                'MixingVisualizationHook takes a MixedAE model, not a '
                f'{type(model).__name__}; take it out of custom_hooks.')
        self.num_images = model.data_preprocessor.num_sources
        for backend in runner.visualizer._vis_backends.values():
            if isinstance(backend, MLflowVisBackend):
                backend.add_image = partial(_as_file, backend.add_image)
        super().before_train(runner)

    def probe(self, runner: Runner, model: BaseModel, step: int) -> None:
        """Draw and hand the figure to the visualizer."""
        from ...analysis.figures import figure_to_array
        from ...analysis.panels import draw_mixing_panel, mixing_panel
        from ...analysis.probe_batch import mix_for_probing
        assert self.images is not None  # loaded before training
        batch = mix_for_probing(model, self.images, self.seed)
        panel = mixing_panel(model, self.images, batch.mix_mask, self.channels)
        figure = draw_mixing_panel(panel, f'after {step} iterations')
        runner.visualizer.add_image('mixing', figure_to_array(figure), step=step)


def _as_file(add_image, name: str, image, step: int = 0, **kwargs) -> None:
    """Name the image as MLflow needs it: with an ending, and one name per step."""
    add_image(f'{name}_{step}.png', image, step, **kwargs)
