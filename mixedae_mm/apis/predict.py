"""What a fine-tuned model of any of the three toolboxes says of images of your own."""
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel, revert_sync_batchnorm
from PIL import Image
from torch import nn

from ..analysis.drawn_samples import draw, drawn_pixels
from ..config.boundary import check_toolbox, preparing, read_config
from ..config.own_channels import loaded_channels
from ..datasets.channels import decode_channels, extensions_of
from ..datasets.decode import decode_rgb
from ..datasets.folder_index import image_files
from ..datasets.reading import read_file
from ..models.checkpoint_loading import load_source
from ..models.checkpoint_reading import read_checkpoint, saved_config
from ..models.checkpoint_source import source_of
from ..utils.building import build_model
from ..utils.checks import check_number
from ..utils.errors import ConfigurationError
from ..utils.files import write_json
from ..utils.messages import reason_of, warn

PathLike = Union[str, Path]


def predict(images: PathLike, checkpoint: PathLike, out: PathLike = 'predictions',
            config: Optional[PathLike] = None, threshold: float = 0.3,
            device: Optional[str] = None,
            channels: Optional[Sequence[int]] = None) -> List[Dict[str, Any]]:
    """Classify, segment or detect, as the checkpoint was trained to.

    Writes for each image, at the same place below ``out``, ``NAME.png`` with the
    result drawn, ``NAME.json`` with the result as below, and for segmentation
    ``NAME_labels.png``, the number of its class for every pixel.

    Args:
        images (str | Path): An image, or a folder that is searched at any depth.
        checkpoint (str | Path): Of a fine-tuning with mmpretrain, mmseg or mmdet. It
            is read as data; nothing in it is executed.
        out (str | Path): Folder for the results.
        config (str | Path, optional): Config of the checkpoint, by default the one
            saved in it.
        threshold (float): Least score of an object, in [0, 1].
        device (str, optional): A GPU by default, if there is one.
        channels (sequence[int], optional): Which to draw as red, green and blue, see
            :func:`~mixedae_mm.analysis.panels.shown_channels`.

    Returns:
        list[dict]: ``image``, and ``class``, ``score`` and ``scores`` (of the five
        best classes), or ``shares`` (of the pixels, per class), or ``objects``
        (``class``, ``score``, ``box`` as left, top, right, bottom, and ``mask`` as
        COCO's run lengths).

    Raises:
        ConfigurationError: If no image can be used (one of many is warned of), the
            checkpoint is not that of a fine-tuning, ``out`` is a file or the folder
            of the images, or ``threshold`` is not in [0, 1].
    """
    check_number('threshold', threshold, lambda number: 0 <= number <= 1,
                 'be in [0, 1]')
    images, out = Path(images).expanduser(), Path(out).expanduser()
    if images.is_dir() and out.resolve() == images.resolve():
        raise ConfigurationError(f'{out} must be another folder than that of the '
                                 'images: results are images, too.')
    if out.exists() and not out.is_dir():
        raise ConfigurationError(f'{out} must be a folder for results, but is a file.')
    model, cfg, meta = fine_tuned(str(checkpoint), config, device)
    pipeline = Compose([step for step in cfg.test_dataloader.dataset.pipeline
                        if not str(step['type']).endswith('LoadAnnotations')])
    count = loaded_channels(cfg.test_dataloader)
    preprocessor = deepcopy(model.data_preprocessor).cpu()  # to draw by its mean
    results: List[Dict[str, Any]] = []
    refused: Optional[ConfigurationError] = None
    earlier = out.resolve() if images.resolve() in out.resolve().parents else None
    for path, name in image_files(images, extensions_of(count)):
        if earlier in path.resolve().parents:  # a result of an earlier call
            continue
        try:
            pixels = _drawn(path, count, preprocessor, channels)
            sample = _predicted(path, pixels.shape[:2], pipeline, model)
        except ConfigurationError as error:
            refused = error
            warn(str(error))
            continue
        target = Path(out, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        draw(pixels, sample, cfg.default_scope, meta, Path(f'{target}.png'),
             threshold)
        result = {'image': str(path),
                  **_described(sample, meta['classes'], target, threshold)}
        write_json(f'{target}.json', result)
        results.append(result)
    if refused and not results:
        raise refused
    return results


def fine_tuned(checkpoint: str, config: Optional[PathLike] = None,
               device: Optional[str] = None) -> Tuple[BaseModel, Config, dict]:
    """A fine-tuned model in evaluation mode, its config, and its classes and palette.

    Arguments and errors are those of :func:`predict`.
    """
    content = read_checkpoint(checkpoint)
    saved = content.get('meta') or {}
    cfg = Config(saved_config(content)) if config is None else read_config(str(config))
    if 'test_dataloader' not in cfg or cfg.test_dataloader is None:
        raise ConfigurationError(
            f'{config or checkpoint} has no test_dataloader: predictions take a '
            'checkpoint of a fine-tuning for classes, objects or masks'
            + ('' if config else ', or its config (config=, --config)') + '.')
    cfg.setdefault('default_scope', 'mmpretrain')
    check_toolbox(cfg, checkpoint)
    if not cfg.get('model'):
        raise ConfigurationError(f'{config or checkpoint} has no model.')
    with preparing(cfg):
        model = revert_sync_batchnorm(build_model(cfg))
    load_source(model, source_of(content, checkpoint), complete=True)
    model.to(device or get_device())
    model.eval()  # returns nothing for some models of mmpretrain
    meta = dict(saved.get('dataset_meta') or {})
    if not meta.get('classes'):
        raise ConfigurationError(f'{checkpoint} does not name its classes.')
    return model, cfg, meta


def _drawn(path: Path, count: Optional[int], preprocessor: nn.Module,
           channels: Optional[Sequence[int]]) -> np.ndarray:
    """An image upright in RGB, to be drawn on: ``(H, W, 3)`` uint8.

    ``count`` is that of ``LoadChannels`` in the pipeline, None for RGB.
    """
    try:
        data = read_file(str(path))
    except OSError as error:
        raise ConfigurationError(
            f'{path} cannot be read: {reason_of(error)}.') from error
    if count is None:
        return decode_rgb(data, str(path)).permute(1, 2, 0).numpy()
    image = decode_channels(data, count, str(path))
    return drawn_pixels(image, preprocessor, channels)


def _predicted(path: Path, size: Tuple[int, int], pipeline: Compose,
               model: BaseModel) -> Any:
    """What the model says of an image file of a size (height, width)."""
    # mmdet's pipelines ask for a number.
    sample, step = dict(img_path=str(path), img_id=0), None
    try:
        for step in pipeline.transforms:
            sample = step(sample)
        step = model
        with torch.no_grad():
            return model.test_step(pseudo_collate([sample]))[0].cpu()
    except Exception as error:  # whatever others make of such an image
        height, width = size
        part = 'the model' if step is model else (
            f'{type(step).__name__} of test_dataloader.dataset.pipeline')
        raise ConfigurationError(
            f'{path}, an image of {width} x {height} pixels, cannot be used: {part} '
            f'fails with {type(error).__name__}: {reason_of(error)}') from error


def _described(sample: Any, classes: List[str], target: Path,
               threshold: float) -> Dict[str, Any]:
    """What JSON can hold of a prediction."""
    if 'pred_score' in sample:
        best = sample.pred_score.topk(min(5, len(classes)))
        scores = {classes[i]: round(score, 4) for score, i in zip(
            best.values.tolist(), best.indices.tolist())}
        name = next(iter(scores))
        return {'class': name, 'score': scores[name], 'scores': scores}
    if 'pred_sem_seg' in sample:
        labels = sample.pred_sem_seg.data.squeeze(0).numpy()  # (H, W)
        kind = np.uint8 if len(classes) <= 256 else np.uint16
        Image.fromarray(labels.astype(kind)).save(f'{target}_labels.png')
        shares = np.bincount(labels.ravel(), minlength=len(classes)) / labels.size
        return {'shares': {name: round(float(share), 4)
                           for name, share in zip(classes, shares)}}
    found = sample.pred_instances
    found = found[found.scores >= threshold]
    objects = [{'class': classes[label], 'score': round(score, 4),
                'box': [round(side, 1) for side in box]}
               for label, score, box in zip(
                   found.labels.tolist(), found.scores.tolist(),
                   found.bboxes.tolist())]
    if 'masks' in found:
        from pycocotools import mask as run_lengths
        for entry, mask in zip(objects, found.masks):
            encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
            entry['mask'] = dict(encoded, counts=encoded['counts'].decode())
    return {'objects': objects}
