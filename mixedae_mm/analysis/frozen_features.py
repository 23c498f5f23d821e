"""One vector per image from a frozen ViT: from which layer, of which tokens."""
from pathlib import Path
from typing import (Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..config.boundary import preparing
from ..datasets.channels import extensions_of, loading_step
from ..datasets.checks import check_same_classes
from ..utils.errors import ConfigurationError
from ..utils.preprocessing import ImageSize
from ..utils.progress import progress_bar
from ..utils.undisturbed import outputs_of
from .attention_probe import encode_whole
from .loading import in_order_of_training, part_of_vit

# How the tokens of an image become one vector.
POOLINGS = ('mean', 'cls', 'max')


class LabelledFeatures(NamedTuple):
    """Features of a labelled data set, in its order, on the CPU."""
    features: Dict[str, Tensor]  # read-out, as layer_06/mean -> (N, C) float32
    labels: Tensor  # (N, ) int64


@torch.no_grad()
def token_readouts(backbone: BaseModule, images: Tensor,
                   layers: Optional[Sequence[int]] = None) -> Dict[str, Tensor]:
    """All read-outs of a batch: ``layer_01/mean`` and so on -> ``(B, C)`` float32.

    The ViT, in evaluation mode, sees normalised images ``(B, C, H, W)`` whole. Layers
    are counted from 1, all by default. ``mean`` and ``max`` are over patch tokens. The
    last layer is read after the final LayerNorm, where there is one, and its mean is
    normalised where fine-tuning put a LayerNorm behind it.

    Raises:
        ConfigurationError: If the backbone has no such layers.
    """
    blocks = part_of_vit(backbone, 'layers')
    layers = range(1, len(blocks) + 1) if layers is None else layers
    if any(not 1 <= layer <= len(blocks) for layer in layers):
        raise ConfigurationError(
            f'There are layers 1 to {len(blocks)}, but {list(layers)} were '
            'asked for.')
    with outputs_of({layer: blocks[layer - 1] for layer in layers}) as tokens:
        encode_whole(backbone, images)
    if len(blocks) in tokens and getattr(backbone, 'final_norm', False):
        tokens[len(blocks)] = backbone.ln1(tokens[len(blocks)])
    first = getattr(backbone, 'num_extra_tokens', 0)
    readouts = {}
    for layer in layers:
        patches = tokens[layer][:, first:].float()  # (B, L, C)
        mean = patches.mean(1)  # (B, C)
        if (layer == len(blocks)
                and getattr(backbone, 'out_type', None) == 'avg_featmap'):
            mean = backbone.ln2(mean).float()
        readouts[f'layer_{layer:02d}/mean'] = mean
        readouts[f'layer_{layer:02d}/max'] = patches.amax(1)
        if first:
            readouts[f'layer_{layer:02d}/cls'] = tokens[layer][:, 0].float()
    return readouts


def default_readout(backbone: BaseModule) -> str:
    """Mean of the patch tokens after the last layer, as in transfer."""
    return f'layer_{len(part_of_vit(backbone, "layers")):02d}/mean'


def labelled_folder(folder: Path, size: ImageSize,
                    channels: Optional[int] = None) -> dict:
    """Config of a data set: a folder with a folder of images for each class.

    Its images, of so many ``channels`` (None: RGB), are cut out to ``size`` as
    ``mixedae_mm.load`` does.
    """
    return dict(
        type='CustomDataset',
        data_root=str(folder),
        extensions=extensions_of(channels),
        pipeline=[
            loading_step(channels),
            dict(type='EvaluationCrop', size=size),
            dict(type='PackInputs'),
        ])


def build_labelled_dataset(dataset: Union[dict, BaseDataset]) -> BaseDataset:
    """A labelled data set of mmpretrain from its config, or as it is."""
    if isinstance(dataset, Dataset):
        return dataset
    init_default_scope('mmpretrain')
    with preparing(Config(dict(dataset=dataset))):
        return DATASETS.build(dataset)


def labelled_splits(folder: Path, size: ImageSize,
                    channels: Optional[int] = None) -> Tuple[BaseDataset, BaseDataset]:
    """The data sets ``train`` and ``val`` of a folder, see :func:`labelled_folder`.

    They must have the same classes: labels are numbered by the names of the folders.
    """
    train, val = (build_labelled_dataset(labelled_folder(
        Path(folder) / split, size, channels)) for split in ('train', 'val'))
    check_same_classes(train, val, 'train', 'val')
    return train, val


def extract_features(model: BaseModel, dataset: BaseDataset,
                     readouts: Optional[Iterable[str]] = None, batch_size: int = 128,
                     num_workers: int = 0, progress: Optional[str] = None,
                     rgb: bool = False) -> LabelledFeatures:
    """Features of every image of a labelled data set, by read-out (default: all).

    Among several processes each encodes a share of the images, and all get
    all features. What fails in one process fails in all.

    Args:
        model (BaseModel): In evaluation mode.
        dataset (BaseDataset): Of mmpretrain: samples with ``inputs`` of one size
            and ``data_samples`` with a ``gt_label``.
        progress (str, optional): Show a progress bar with this name.
        rgb (bool): The images are RGB, as those of :func:`labelled_folder`. By default
            they are in the order that the model's own data set has.

    Raises:
        ConfigurationError: If an image has no label, or a read-out does not exist.
    """
    rank, world_size = get_rank(), get_world_size()
    # Every process takes as many: what is beyond the end is cut off below.
    own = [(i * world_size + rank) % len(dataset)
           for i in range(-(-len(dataset) // world_size))]
    loader = DataLoader(Subset(dataset, own), batch_size, num_workers=num_workers,
                        collate_fn=_collate)
    wanted = None if readouts is None else list(readouts)
    try:
        with progress_bar(progress or '', len(loader),
                          show=progress is not None) as advance:
            share = _encode(model, loader, wanted, rgb, advance)
    except Exception as error:  # the other processes must not wait for this one
        all_gather_object(f'{type(error).__name__}: {error}')
        raise
    shares = all_gather_object(share)
    for other in shares:
        if isinstance(other, str):
            raise ConfigurationError(f'In another process: {other}')
    features, labels = zip(*shares)
    return LabelledFeatures(
        {name: _in_turns([values[name] for values in features], len(dataset))
         for name in features[0]},
        _in_turns(labels, len(dataset)))


def _encode(model: BaseModel, batches: Iterable, wanted: Optional[List[str]],
            rgb: bool, advance: Callable[[int], None]
            ) -> Tuple[Dict[str, Tensor], Tensor]:
    """Read-outs ``(N, C)`` by name and labels ``(N, )`` of this process."""
    layers = None if wanted is None else sorted({_layer_of(name) for name in wanted})
    parts: Dict[str, List[Tensor]] = {}
    labels: List[Tensor] = []
    for images, image_labels in batches:
        if rgb:
            images = in_order_of_training(model, images)
        inputs = model.data_preprocessor(
            dict(inputs=images, data_samples=None))['inputs']
        values = token_readouts(model.backbone, inputs, layers)
        missing = [name for name in wanted or () if name not in values]
        if missing:
            raise ConfigurationError(
                f'There is no read-out {missing[0]}; choose from '
                f'{", ".join(sorted(values))}.')
        for name in wanted or values:
            parts.setdefault(name, []).append(values[name].cpu())
        labels.append(image_labels)
        advance(1)
    return ({name: torch.cat(values) for name, values in parts.items()},
            torch.cat(labels))


def _layer_of(readout: str) -> int:
    layer, _, pooling = readout.partition('/')
    number = layer.removeprefix('layer_')
    if not number.isdecimal() or pooling not in POOLINGS:
        raise ConfigurationError(
            f"'{readout}' is not a read-out; they are called layer_06/mean, with "
            f'one of {", ".join(POOLINGS)} after the layer, counted from 1.')
    return int(number)


def _collate(samples: Sequence[dict]):
    """Images ``(B, C, H, W)`` and labels ``(B, )`` of mmpretrain's samples."""
    labels: List[Any] = [
        getattr(sample['data_samples'], 'gt_label', None) for sample in samples]
    if any(label is None or label.numel() != 1 for label in labels):
        raise ConfigurationError(
            'Every image of a labelled data set must have one label: '
            'data_samples.gt_label, as PackInputs of mmpretrain makes it.')
    return (torch.stack([sample['inputs'] for sample in samples]),
            torch.cat([label.flatten() for label in labels]))


def _in_turns(shares: Sequence[Tensor], num_samples: int) -> Tensor:
    """What processes took in turns, in the data set's order."""
    return torch.stack(list(shares), 1).flatten(0, 1)[:num_samples]
