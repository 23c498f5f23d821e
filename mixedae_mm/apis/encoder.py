"""A pre-trained encoder, ready for images of any kind."""
import hashlib
import os
from itertools import islice
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..datasets.channels import decode_channels, extensions_of, tensor_of_channels
from ..datasets.decode import decode_rgb
from ..datasets.folder_index import image_files
from ..datasets.reading import read_file
from ..interop.reading import read_vit
from ..interop.vit import PlainViT, Vit
from ..utils.checks import check_choice, check_count
from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from ..utils.preprocessing import (ImageLike, Preprocessing, channels_to_read,
                                   height_and_width, to_rgb_tensor)

POOLINGS = ('mean', 'cls')
Images = Union[ImageLike, Iterable[ImageLike]]


class Encoded(NamedTuple):
    """Tokens of ``N`` images after the last layer, on the CPU, float32."""
    cls: Tensor  # (N, C)
    patches: Tensor  # (N, L, C), row by row


def load(checkpoint: Union[str, Path],
         device: Union[str, torch.device, None] = None,
         img_size: Union[int, Tuple[int, int], None] = None,
         amp: bool = False,
         heads: Optional[int] = None) -> 'Encoder':
    """Load the encoder of a checkpoint with its preprocessing.

    >>> encoder = mixedae_mm.load('work_dirs/mixedae_vitb_300e/epoch_300.pth')
    >>> cls, patches = encoder.encode('photo.jpg')

    Args:
        checkpoint (str | Path): Of pre-training or fine-tuning with
            mixedae_mm, mmpretrain, mmseg or mmdet; of timm or Meta's MAE; a
            folder as Hugging Face and timm publish them. It is read as data;
            nothing in it is executed.
        device (str | torch.device, optional): Defaults to the GPU if there
            is one, otherwise the CPU.
        img_size (int | tuple[int, int], optional): Height and width that
            images are brought to, multiples of the patch size; positions
            are interpolated. Defaults to the size of the training.
        amp (bool): Compute in bfloat16 where that is safe.
        heads (int, optional): Attention heads, for files that do not say.

    Returns:
        Encoder: In evaluation mode.

    Raises:
        ConfigurationError: If the file is not a checkpoint of a plain ViT, or
            ``img_size`` is not a multiple of the patch size.
    """
    vit = read_vit(str(checkpoint), encoder_only=None, heads=heads)
    if vit.notes:
        warn(f'{checkpoint} does not say everything; assumed: '
             f'{"; ".join(vit.notes)}.')
    return Encoder(vit, device=device, img_size=img_size, amp=amp,
                   name=str(checkpoint))


class Encoder:
    """What :func:`load` returns; see there for the arguments.

    Wherever it says ``images``, it takes one image or any iterable of
    images, each of them

    - the path of an image file, or of a folder, which stands for all images
      below it in natural order;
    - a PIL image of any mode;
    - an array ``(H, W, 3)`` or ``(H, W)``, uint8, or floating point in 0..1;
    - a tensor ``(3, H, W)`` or ``(1, H, W)``, likewise,

    or a batch ``(N, H, W, 3)`` as array, ``(N, 3, H, W)`` as tensor. Colours
    are RGB. The shorter side is resized, the centre cut out. An encoder of another
    number of channels takes files, arrays and tensors of so many, in the units of its
    mean (:func:`~mixedae_mm.datasets.channels.decode_channels`). There are
    ``batch_size`` images in a batch, at least 1. Results are float32 on the CPU.

    Attributes:
        model (PlainViT): Normalised images to tokens.
        preprocessing (Preprocessing): Resizes, crops and normalises images.
        description (Description): Sizes of the ViT.
        channels (int, optional): That files are read with; None for RGB.
    """

    def __init__(self,
                 vit: Vit,
                 device: Union[str, torch.device, None] = None,
                 img_size: Union[int, Tuple[int, int], None] = None,
                 amp: bool = False,
                 name: str = 'The checkpoint') -> None:
        if device is None:
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.device = torch.device(device)
        self.amp = amp
        self.name = name
        sizes = self.description = vit.description
        self.channels = channels_to_read(sizes.in_channels, sizes.mean)
        numbers = len(sizes.mean), len(sizes.std)
        if not {1, sizes.in_channels}.issuperset(numbers):
            raise ConfigurationError(
                f'{name} takes images of {sizes.in_channels} channels, but has mean '
                f'and standard deviation of {numbers[0]} and {numbers[1]}; it needs '
                'the config of its training.')
        self.model = PlainViT(vit, name).to(self.device)
        self.preprocessing = Preprocessing(
            sizes.img_size if img_size is None else self._checked(img_size),
            sizes.mean, sizes.std)

    def __repr__(self) -> str:
        height, width = self.preprocessing.img_size
        return (f'{type(self).__name__}({self.name}: {self.description}; images of '
                f'{height} x {width} pixels; on {self.device}'
                f'{", bfloat16" if self.amp else ""})')

    def encode(self, images: Images, batch_size: int = 32) -> Encoded:
        """Tokens of images.

        Returns:
            Encoded: ``cls`` ``(N, C)`` and ``patches`` ``(N, L, C)``; for one image
            ``N`` is 1. All are in memory: for many images take :meth:`batches` or
            :meth:`features`.

        Raises:
            ConfigurationError: If something is not an image, there are none, or
                ``batch_size`` is below 1.
        """
        encoded = list(self.batches(images, batch_size))
        return Encoded(*map(torch.cat, zip(*encoded)))

    def batches(self, images: Images, batch_size: int = 32) -> Iterator[Encoded]:
        """As :meth:`encode`, one batch after the other."""
        for crops in self._crops(images, batch_size):
            tokens = self.tokens(crops).float().cpu()
            yield Encoded(tokens[:, 0], tokens[:, 1:])

    def features(self, images: Images, pooling: str = 'mean',
                 batch_size: int = 32) -> Tensor:
        """One vector per image, ``(N, C)``.

        ``pooling`` is the ``'mean'`` of the patch tokens (normalised, if the
        checkpoint was fine-tuned so), or ``'cls'``.

        Raises:
            ConfigurationError: As :meth:`encode`, and for another pooling.
        """
        return torch.cat([self.pool(crops, pooling)
                          for crops in self._crops(images, batch_size)])

    @torch.no_grad()
    def classify(self, images: Images, batch_size: int = 32) -> Tensor:
        """Logits ``(N, num_classes)`` of a fine-tuned classifier.

        Raises:
            ConfigurationError: As :meth:`encode`, or if there is no classifier.
        """
        if self.model.head is None:
            raise ConfigurationError(f'{self.name} has no classifier.')
        return torch.cat([self.model.logits(self.tokens(crops).float()).cpu()
                          for crops in self._crops(images, batch_size)])

    @torch.no_grad()
    def tokens(self, crops: Tensor) -> Tensor:
        """Crops ``(N, 3, H, W)``, uint8 or 0..1, to ``(N, 1 + L, C)`` on the device."""
        images = self.preprocessing.normalize(crops.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            return self.model(images)

    @torch.no_grad()
    def pool(self, crops: Tensor, pooling: str = 'mean') -> Tensor:
        """Crops ``(N, 3, H, W)``, uint8 or 0..1, to ``(N, C)`` on the CPU, float32.

        Raises:
            ConfigurationError: If ``pooling`` is neither ``'mean'`` nor ``'cls'``.
        """
        check_choice('pooling', pooling, POOLINGS)
        return self.model.pool(self.tokens(crops).float(), pooling).cpu()

    def fingerprint(self) -> str:
        """Hash of all weights and sizes: equal for equal features."""
        sizes = self.description
        digest = hashlib.sha256(
            f'{sizes} {sizes.mean} {sizes.std} {sizes.norm_eps}'.encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _crops(self, images: Images, batch_size: int) -> Iterator[Tensor]:
        check_count('batch_size', batch_size)
        crops = map(self.preprocessing.crop, images_of(images, self.channels))
        batch = list(islice(crops, batch_size))
        if not batch:
            raise ConfigurationError('There is no image to encode.')
        while batch:
            yield torch.stack(batch)
            batch = list(islice(crops, batch_size))

    def _checked(self, img_size: Union[int, Tuple[int, int]]) -> Tuple[int, int]:
        patch_size = self.description.patch_size
        try:
            size = height_and_width(img_size)
        except ConfigurationError:  # the sentence below says more
            size = (0, 0)
        if any(side < patch_size or side % patch_size for side in size):
            raise ConfigurationError(
                f'img_size is {img_size}, but must be one or two multiples of '
                f'the patch size {patch_size}.')
        return size


def images_of(images: Images, channels: Optional[int] = None) -> Iterator[Tensor]:
    """Every image as a tensor ``(channels, H, W)``; None is RGB, uint8."""
    if isinstance(images, (str, os.PathLike)):
        for file, _ in image_files(images, extensions_of(channels)):
            yield decode_image(read_file(str(file)), str(file), channels)
    elif isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
        yield from (_in_memory(image, channels) for image in images)
    elif isinstance(images, (np.ndarray, Tensor, bytes, bytearray)) or not hasattr(
            images, '__iter__'):
        yield _in_memory(images, channels)
    else:
        for image in images:
            yield from images_of(image, channels)


def decode_image(data: bytes, name: str, channels: Optional[int] = None) -> Tensor:
    """The content of a file as :func:`images_of` gives it."""
    if channels is None:
        return decode_rgb(data, name)
    return _as_shares(decode_channels(data, channels, name))


def _in_memory(image: Any, channels: Optional[int]) -> Tensor:
    if channels is None:
        return to_rgb_tensor(image)
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().numpy()  # (C, H, W)
        pixels = pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels
    else:
        pixels = np.asarray(image)
    return _as_shares(tensor_of_channels(pixels, channels, type(image).__name__))


def _as_shares(image: Tensor) -> Tensor:
    """Floating-point values as :class:`Preprocessing` takes them, divided by 255."""
    return image if image.dtype == torch.uint8 else image / 255
