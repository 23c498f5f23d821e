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
from .panels import as_rgb, frame, show_image

PHASES = ('train', 'val', 'test')


def browse(cfg: Config, phase: str, positions: Sequence[int],
           batch_size: int = 4, channels: Optional[Sequence[int]] = None
           ) -> Iterator[Figure]:
    """Draw samples of a config's data set, one figure per batch.

    Args:
        cfg (Config): Of any of the three toolboxes.
        phase (str): Whose data loader: 'train', 'val' or 'test'.
        positions (Sequence[int]): Of the samples.
        batch_size (int): Samples that are preprocessed together; MixedAE takes
            whole groups instead.
        channels (Sequence[int], optional): As in :func:`.panels.shown_channels`.

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
    if scope != 'mmpretrain':
        with preparing(cfg):
            preprocessor = MODELS.build(cfg.model.data_preprocessor)
        for start in range(0, len(positions), batch_size):
            yield _draw_labels([dataset[i % len(dataset)] for i in
                                positions[start:start + batch_size]], dataset, scope,
                               preprocessor, channels)
        return
    with preparing(cfg):
        preprocessor = build_model(cfg).data_preprocessor
    batch_size = getattr(preprocessor, 'num_sources', batch_size)
    for start in range(0, len(positions), batch_size):
        samples = [dataset[i % len(dataset)]
                   for i in positions[start:start + batch_size]]
        if phase == 'train' and hasattr(preprocessor, 'num_sources'):
            # The last group may lack some: begin again.
            samples = [samples[i % len(samples)] for i in range(batch_size)]
        with torch.no_grad():
            inputs = preprocessor(pseudo_collate(samples), phase == 'train')['inputs']
        yield _draw(inputs, preprocessor, samples, channels)


def _draw_labels(samples, dataset, scope: str, preprocessor, channels) -> Figure:
    """One row: images with their masks or boxes."""
    figure = Figure(figsize=(3.2 * len(samples), 3.4), layout='constrained')
    for axes, sample in zip(figure.subplots(1, len(samples), squeeze=False)[0],
                            samples):
        pixels = drawn_pixels(sample['inputs'], preprocessor, channels)
        truth = sample['data_samples']
        if scope == 'mmdet':  # its visualizer takes plain tensors
            boxes = truth.gt_instances.bboxes
            truth.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
        drawn = draw(pixels, truth, scope, dataset.metainfo, truth=True)
        show_image(axes, torch.from_numpy(drawn.copy()), _title(sample)[-24:])
    return figure


def _draw(inputs, preprocessor, samples, channels) -> Figure:
    """One row: the images, and in training of MixedAE what they are mixed to."""
    if isinstance(inputs, dict):
        images, mixed = inputs['clean'], inputs['mixed']
    else:
        images, mixed = inputs, inputs[:0]
    pixels = as_rgb(torch.cat([images, mixed]), preprocessor, channels)
    figure = Figure(figsize=(1.9 * len(pixels), 2.2), layout='constrained')
    for i, axes in enumerate(figure.subplots(1, len(pixels), squeeze=False)[0]):
        is_source = i < len(images)
        title = _title(samples[i]) if is_source else 'mixed'
        show_image(axes, pixels[i].permute(1, 2, 0), title[-24:])
        if len(mixed) and is_source:
            frame(axes, i)
    return figure


def _title(sample: dict) -> str:
    data_sample = sample['data_samples']
    label = data_sample.get('gt_label')
    name = str(data_sample.get('img_path', '')).rpartition('/')[2]
    return name if label is None else f'{name}: {label.tolist()}'
