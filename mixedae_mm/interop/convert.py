"""Convert a checkpoint, and compare the result with its source."""
from dataclasses import replace
from pathlib import Path
from typing import List, NamedTuple, Optional
from urllib.parse import urlsplit

import torch
from torch import Tensor

from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from ..utils.checks import check_choice, check_count
from ..utils.errors import ConfigurationError
from ..utils.files import whole
from ..utils.preprocessing import Preprocessing, to_rgb_tensor
from .formats import FORMATS, check
from .reading import read_vit
from .reference import outputs
from .vit import Comparison, Description, Vit
from .writing import check_destination, model_card, write_vit


class Conversion(NamedTuple):
    """What was done."""
    vit: Vit  # what was written
    num_written: int  # tensors in the result
    comparisons: List[Comparison]  # empty if they could not be made
    not_compared: str  # why not

    @property
    def check(self) -> str:
        """One sentence on the comparison."""
        text = f'All {self.num_written} tensors read back bit for bit; '
        if not self.comparisons:
            return text + self.not_compared
        return (text + 'largest difference to the source on an image: ' +
                ', '.join(map(str, self.comparisons)) + '.')


def convert(source: str,
            destination: str,
            to: str,
            image: Optional[str] = None,
            encoder_only: bool = False,
            heads: Optional[int] = None,
            decoder_heads: Optional[int] = None,
            overwrite: bool = False,
            input_channels: Optional[int] = None) -> Conversion:
    """Convert a checkpoint; on an error nothing is written.

    Args:
        source (str): See :func:`~.reading.read_vit`.
        destination (str): A file if it ends in .pth, .pt, .bin or
            .safetensors, otherwise a folder with weights, configuration and
            model card.
        to (str): A key of :data:`~.formats.FORMATS`.
        image (str, optional): Image to compare features on. Defaults to
            :func:`example_image`.
        encoder_only (bool): Leave out everything but the encoder.
        heads (int, optional): Attention heads, where the source does not say.
        decoder_heads (int, optional): Likewise of the decoder.
        overwrite (bool): Replace what is at the destination.
        input_channels (int, optional): Number of channels of the result. Its
            features of images whose channels are all equal are those of the source.

    Returns:
        Conversion: What was written, and how its features compare.

    Raises:
        ConfigurationError: If the source has no place there or cannot be
            read, the destination cannot be written, or features differ.
    """
    check_choice('to', to, FORMATS)
    target = FORMATS[to]
    final = check_destination(destination, target, overwrite)
    before = vit = read_vit(
        source, encoder_only, heads, decoder_heads, target.has_decoder)
    if input_channels is not None:
        check_count('input_channels', input_channels)
        vit = vit.with_channels(input_channels)
    check(vit, target)

    name = Path(urlsplit(str(source)).path).name
    images = _inputs(before.description, load_image(image))
    if input_channels is not None:  # of which all channels must be equal
        images = images[:, :1].expand_as(images)
    expected, problem = _run(before, images)
    with whole(final) as temporary:
        written = write_vit(vit, temporary, target, name)
        sizes = vit.description
        after = read_vit(
            str(temporary), heads=sizes.encoder.heads,
            decoder_heads=sizes.decoder.heads if sizes.decoder else None)
        if vit.weights.keys() != after.weights.keys() or not all(
                torch.equal(vit.weights[key], after.weights[key])
                for key in vit.weights):
            raise ConfigurationError(
                f'{destination} was not written: what was read back differs from '
                'the source; this is a fault of mixedae_mm.')
        if input_channels is not None:
            images = images[:, :1].expand(-1, input_channels, -1, -1)
        got, other_problem = _run(replace(after, description=sizes), images)
        for results, own in ((expected, before), (got, vit)):
            if 'pixels' in results and input_channels is not None:
                results['pixels'] = results['pixels'].unflatten(
                    -1, (-1, own.description.in_channels)).mean(-1)
        comparisons = [
            Comparison(name, (got[name] - expected[name]).abs().max().item(),
                       expected[name].abs().max().item())
            for name in expected if name in got
        ]
        result = Conversion(vit, len(written), comparisons, problem or other_problem)
        for comparison in comparisons:
            if not comparison.is_small():
                raise ConfigurationError(
                    f'{source} was not converted: the largest difference in '
                    f'{comparison} is too large; were all sizes known? ({sizes})')
        if temporary.is_dir():
            (temporary / 'README.md').write_text(
                model_card(vit, target, final.name, name, result.check))
    return result


def _inputs(sizes: Description, image: Tensor) -> Tensor:
    """An RGB image as a ViT takes it, ``(1, C, H, W)``: other channels repeat it."""
    if sizes.in_channels == 3:
        return Preprocessing(sizes.img_size, sizes.mean, sizes.std)(image)[None]
    normalised = Preprocessing(sizes.img_size, IMAGENET_MEAN, IMAGENET_STD)(image)
    return normalised[[i % 3 for i in range(sizes.in_channels)]][None]


def example_image() -> Tensor:
    """scikit-image's astronaut, generated without it; uint8 ``(3, 512, 512)``."""
    try:
        from skimage.data import astronaut
        return to_rgb_tensor(astronaut())
    except ImportError:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 3, 16, 16, generator=generator)
        fine = torch.nn.functional.interpolate(
            coarse, size=(512, 512), mode='bicubic')[0]
        return (fine.clamp(0, 1) * 255).byte()


def load_image(path: Optional[str]) -> Tensor:
    """An image file as ``(3, H, W)`` uint8; :func:`example_image` for None."""
    if path is None:
        return example_image()
    from ..datasets.decode import decode_rgb
    if not Path(path).is_file():
        raise ConfigurationError(f'The image {path} does not exist.')
    return decode_rgb(Path(path).read_bytes(), path)


def _run(vit, images):
    try:
        return outputs(vit, images), ''
    except ImportError as error:
        library = error.name or str(error)
        return {}, (f'features were not compared, because {library} is not '
                    'installed.')
