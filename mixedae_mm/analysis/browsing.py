"""Draw the input of a model: images after pipeline and data preprocessor.

mmpretrain's own browser takes NumPy images only, and shows them before they are
mixed. Masks and boxes are drawn by the visualizers of mmseg and mmdet.
"""
from typing import Iterator, Optional, Sequence

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from ..config.boundary import preparing
from ..utils.building import build_model
from ..utils.errors import ConfigurationError
from .drawn_samples import draw, drawn_pixels
from .figures import literal
from .panels import as_rgb, frame, show_image

PHASES = ('train', 'val', 'test')


def browse(cfg: Config, phase: str, positions: Sequence[int],
           channels: Optional[Sequence[int]] = None) -> Iterator[Figure]:
    """Draw samples of a config's data set, one figure per batch or group of MixedAE.

    The config is of any of the three toolboxes; ``phase`` is one of :data:`PHASES`,
    ``channels`` are those of :func:`.panels.shown_channels`.

    Raises:
        ConfigurationError: If the config has no such data, or they or the model
            cannot be built.
    """
    scope = cfg.get('default_scope', 'mmpretrain')
    init_default_scope(scope)
    loader = cfg.get(f'{phase}_dataloader')
    if loader is None:
        raise ConfigurationError(f'The config has no {phase}_dataloader.')
    with preparing(cfg):
        dataset = DATASETS.build(loader.dataset)
        preprocessor = (
            build_model(cfg).data_preprocessor if scope == 'mmpretrain' else
            MODELS.build(cfg.model.data_preprocessor))
    batch_size = getattr(preprocessor, 'num_sources', 4)
    for start in range(0, len(positions), batch_size):
        samples = [dataset[i % len(dataset)]
                   for i in positions[start:start + batch_size]]
        if scope == 'mmpretrain':
            yield _draw_inputs(samples, preprocessor, channels, phase == 'train')
        else:
            yield _draw_labels(samples, preprocessor, channels, dataset, scope)


def _draw_labels(samples, preprocessor, channels, dataset, scope: str) -> Figure:
    """Images with their masks or boxes."""
    drawn = []
    for sample in samples:
        truth = sample['data_samples']
        if scope == 'mmdet':  # its visualizer takes plain tensors
            boxes = truth.gt_instances.bboxes
            truth.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
        pixels = drawn_pixels(sample['inputs'], preprocessor, channels)
        drawn.append(draw(pixels, truth, scope, dataset.metainfo, truth=True))
    return _row([torch.from_numpy(image.copy()) for image in drawn],
                list(map(_title, samples)), 3.2)


def _draw_inputs(samples, preprocessor, channels, training: bool) -> Figure:
    """The images, and in training of MixedAE what they are mixed to."""
    if training and hasattr(preprocessor, 'num_sources'):
        # The last group may lack some: begin again.
        samples = [samples[i % len(samples)] for i in range(preprocessor.num_sources)]
    with torch.no_grad():
        inputs = preprocessor(pseudo_collate(samples), training)['inputs']
    is_mixed = isinstance(inputs, dict)
    images = torch.cat([inputs['clean'], inputs['mixed']]) if is_mixed else inputs
    titles = list(map(_title, samples))
    titles += ['mixed'] * (len(images) - len(samples))
    pixels = as_rgb(images, preprocessor, channels).permute(0, 2, 3, 1)
    figure = _row(list(pixels), titles, 1.9)
    for i, axes in enumerate(figure.axes[:len(samples) if is_mixed else 0]):
        frame(axes, i)
    return figure


def _row(images: Sequence[torch.Tensor], titles: Sequence[str], side: float) -> Figure:
    """Images ``(H, W, 3)`` side by side, so many inches each."""
    figure = Figure(figsize=(side * len(images), side + 0.3), layout='constrained')
    for axes, image, title in zip(figure.subplots(1, len(images), squeeze=False)[0],
                                  images, titles):
        show_image(axes, image, title[-24:])
    return literal(figure)


def _title(sample: dict) -> str:
    data_sample = sample['data_samples']
    label = data_sample.get('gt_label')
    name = str(data_sample.get('img_path', '')).rpartition('/')[2]
    return name if label is None else f'{name}: {label.tolist()}'
