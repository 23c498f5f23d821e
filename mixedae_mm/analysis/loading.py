"""Load models and images from files, to measure and draw them."""
import argparse
import random
from operator import attrgetter
from pathlib import Path
from typing import (Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple,
                    TypeVar, Union)

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import TRANSFORMS
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from ..config.boundary import preparing, read_config
from ..datasets import UnreadableImageError, index_folder
from ..datasets.channels import extensions_of, loading_step
from ..models.checkpoint_loading import load_source
from ..models.checkpoint_source import read_source
from ..utils.arguments import device_name
from ..utils.building import build_model
from ..utils.checks import check_names
from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from ..utils.preprocessing import ImageSize, channels_to_read, evaluation_crop
from ..utils.random import own_random_numbers
from ..utils.undisturbed import quiet

PathLike = Union[str, Path]
Item = TypeVar('Item')


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', type=device_name,
                        help='default: a GPU if there is one')


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of tools that look at one model or compare several."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of its model')
    parser.add_argument('--versus', nargs=3, action='append', default=[],
                        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
                        help='compare with this model; may be given several times')
    parser.add_argument('--name', help='of the first model, for the legend (default: '
                        'name of its config)')
    add_device(parser)


def load_models(args: argparse.Namespace,
                taken: Sequence[str] = ()) -> Dict[str, BaseModel]:
    """The models that :func:`add_model_arguments` asked for, by name.

    Raises:
        ConfigurationError: If two have one name or one has a name that is ``taken``,
            or as :func:`load_model`.
    """
    name = args.name or Path(args.config).stem
    wanted = [(name, args.config, args.checkpoint), *args.versus]
    names = [*taken, *(each for each, _, _ in wanted)]
    check_names(names, len(names), 'models', '--name, --versus')
    return {name: load_model(config, checkpoint, args.device)
            for name, config, checkpoint in wanted}


def load_model(config: PathLike, checkpoint: PathLike,
               device: Optional[str] = None) -> BaseModel:
    """A config's model with a checkpoint's weights, in evaluation mode.

    The config, a file or ``mixedae_mm::NAME``, is of mmpretrain, mmseg or mmdet. The
    checkpoint is read as data: nothing in it is executed. ``device`` is a GPU by
    default, if there is one.

    Raises:
        ConfigurationError: If a file cannot be read, or the weights are of another
            model.
    """
    model = _build(config)
    report = load_source(model, read_source(str(checkpoint)), complete=True)
    if report.ignored:
        raise ConfigurationError(
            f'{checkpoint} holds the weights of another model than {config} '
            f'describes: {", ".join(report.ignored)} have no place in it.')
    return _ready(model, device)


def untrained_model(config: Union[PathLike, Config], device: Optional[str] = None,
                    seed: int = 0) -> BaseModel:
    """A config's model with random weights of a seed: what training must surpass."""
    with own_random_numbers(seed), quiet():  # else one line is logged per weight
        model = _build(config)
        model.init_weights()
    return _ready(model, device)


def _build(config: Union[PathLike, Config]) -> BaseModel:
    cfg = config if isinstance(config, Config) else read_config(str(config))
    if cfg.get('model') is None:
        raise ConfigurationError(f'{config} has no model.')
    with preparing(cfg):
        return build_model(cfg)


def _ready(model: BaseModel, device: Optional[str]) -> BaseModel:
    model.to(device or get_device())
    model.eval()  # returns nothing for some models of mmpretrain
    return model


def part_of_vit(model: nn.Module, name: str) -> Any:
    """An attribute of a ViT of mmpretrain, or of a model with such a backbone."""
    try:
        return attrgetter(name)(model)
    except AttributeError:
        raise ConfigurationError(
            f'{type(model).__name__} has no {name}, which a ViT of mmpretrain has, '
            'such as MixedAEViT, MAEViT and VisionTransformer.') from None


def image_size_of(backbone: BaseModule) -> Tuple[int, int]:
    """Height and width of the images that a ViT was built for, in pixels."""
    return tuple(part_of_vit(backbone, 'img_size'))


def channels_of(model: BaseModel) -> Optional[int]:
    """Channels that files are read with for a ViT; None for RGB."""
    return channels_to_read(
        part_of_vit(model, 'backbone.patch_embed.projection.in_channels'),
        getattr(model.data_preprocessor, 'mean', None))


def common_channels(models: Mapping[str, BaseModel]) -> Optional[int]:
    """:func:`channels_of` of models that see the same images; they must not differ."""
    counts = {name: channels_of(model) for name, model in models.items()}
    if len(set(counts.values())) > 1:
        raise ConfigurationError(
            'The models take images of different numbers of channels, so that they '
            f'cannot be compared: {counts} (None: RGB).')
    return next(iter(counts.values()))


def swapped(images: Tensor, preprocessor: nn.Module) -> Tensor:
    """Images ``(N, C, H, W)`` in the order of a model's data set, or back in RGB.

    A data preprocessor that turns BGR into RGB would turn RGB into BGR. Other numbers
    of channels than three are left as they are.
    """
    # ClsDataPreprocessor of mmpretrain has one name, all others the other.
    swaps = (getattr(preprocessor, 'to_rgb', False)
             or getattr(preprocessor, '_channel_conversion', False))
    return images.flip(1) if swaps and images.size(1) == 3 else images


def in_order_of_training(model: BaseModel, images: Tensor) -> Tensor:
    """RGB images ``(N, 3, H, W)`` with their channels as the model's data set has."""
    return swapped(images, model.data_preprocessor)


def normalised_for(model: BaseModel, images: Tensor) -> Tensor:
    """What a model's backbone takes, on its device.

    Images are ``(N, 3, H, W)``, RGB in 0..255, or ``(N, C, H, W)`` in the units of the
    preprocessor's mean.
    """
    return model.data_preprocessor(dict(
        inputs=in_order_of_training(model, images), data_samples=None))['inputs']


def load_images(paths: Sequence[str], size: Optional[ImageSize] = None,
                multiple_of: int = 1,
                channels: Optional[int] = None) -> Iterator[Tuple[str, Tensor]]:
    """Read images one at a time: path and ``(channels, H, W)``, RGB (None) as uint8.

    They are cropped to ``size`` by
    :func:`~mixedae_mm.utils.preprocessing.evaluation_crop`, or without it to a multiple
    of ``multiple_of``. A file that cannot be read is left out with a warning.

    Raises:
        ConfigurationError: After the last file, if none could be read; if an
            image is smaller than ``multiple_of``.
    """
    load = TRANSFORMS.build(loading_step(channels))
    num_read = 0
    for path in paths:
        try:
            image = load(dict(img_path=path))['img']
        except (UnreadableImageError, OSError) as error:
            warn(f'Left out an unreadable image: {error}')
            continue
        num_read += 1
        if size is not None:
            yield path, evaluation_crop(image, size)
            continue
        own = [side // multiple_of * multiple_of for side in image.shape[1:]]
        if 0 in own:
            raise ConfigurationError(
                f'{path} has {image.shape[1]} x {image.shape[2]} pixels, but must have '
                f'at least {multiple_of} x {multiple_of}.')
        yield path, F.center_crop(image, own)
    if not num_read:
        raise ConfigurationError(
            f'None of the {len(paths)} images could be read, the first being '
            f'{paths[0] if paths else "missing"}.')


def find_images(folder: PathLike, num_images: Optional[int] = None,
                seed: Optional[int] = None,
                channels: Optional[int] = None) -> List[str]:
    """Paths of the image files in a folder, at any depth, or of a single file.

    At most ``num_images``: at random with a ``seed``, otherwise spread evenly over the
    folder, in natural order. ``channels`` (None: RGB) say what files they may be in.

    Raises:
        ConfigurationError: If the folder does not exist or has no images.
    """
    if Path(folder).is_file():
        return [str(folder)]
    index = index_folder(str(folder), extensions_of(channels))
    every = range(len(index.ends))
    count = min(num_images or len(every), len(every))
    chosen = (spread(every, count) if seed is None else
              random.Random(seed).sample(every, count))
    return [str(Path(folder) / index.path(i)) for i in chosen]


def spread(items: Sequence[Item], count: int) -> List[Item]:
    """At most so many of the items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
