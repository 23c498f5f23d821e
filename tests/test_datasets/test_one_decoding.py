"""One picture is one tensor, whichever way it comes in."""
import io

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from mixedae_mm.datasets import decode_rgb
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.preprocessing import to_rgb_tensor

GENERATOR = np.random.RandomState(0)
VALUES_16 = GENERATOR.randint(0, 2**16, (20, 30)).astype(np.uint16)
COLOURS = Image.fromarray(GENERATOR.randint(0, 256, (20, 30, 3)).astype(np.uint8))
ALPHA = Image.fromarray(GENERATOR.randint(0, 256, (20, 30)).astype(np.uint8))


def with_alpha(mode):
    image = COLOURS.convert(mode)
    image.putalpha(ALPHA)
    return image


# Name -> image, format of its file, arguments to save it.
PICTURES = {
    'I;16': (Image.fromarray(VALUES_16), 'PNG', {}),
    'I;16 TIFF': (Image.fromarray(VALUES_16), 'TIFF', {}),
    'I': (Image.fromarray(VALUES_16.astype(np.int32)), 'TIFF', {}),
    'F': (Image.fromarray((VALUES_16 / 65535).astype(np.float32)), 'TIFF', {}),
    'L': (COLOURS.convert('L'), 'PNG', {}),
    'LA': (with_alpha('L'), 'PNG', {}),
    'RGB': (COLOURS, 'PNG', {}),
    'RGBA': (with_alpha('RGB'), 'PNG', {}),
    'P': (COLOURS.quantize(64), 'PNG', {}),
    'P transparent': (COLOURS.quantize(64), 'PNG', dict(transparency=3)),
    '1': (COLOURS.convert('1'), 'PNG', {}),
    'CMYK': (COLOURS.convert('CMYK'), 'TIFF', {}),
    'YCbCr': (COLOURS.convert('YCbCr'), 'TIFF', {}),
}


def encoded(image, format, **kwargs):
    file = io.BytesIO()
    image.save(file, format, **kwargs)
    return file.getvalue()


@pytest.mark.parametrize('name', PICTURES)
def test_file_and_pil_image(name):
    image, format, kwargs = PICTURES[name]
    data = encoded(image, format, **kwargs)
    expected = decode_rgb(data)
    assert expected.dtype == torch.uint8 and expected.shape == (3, 20, 30)
    opened = Image.open(io.BytesIO(data))
    for same in (opened, opened.copy(), image):
        assert torch.equal(to_rgb_tensor(same), expected)
    if image.mode not in ('P', 'CMYK', 'YCbCr'):  # arrays do not say these
        pixels = np.asarray(image)
        assert torch.equal(to_rgb_tensor(pixels), expected)
        if pixels.ndim == 3 and pixels.dtype == np.uint8:
            tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
            assert torch.equal(to_rgb_tensor(tensor), expected)


def test_16_bits_keep_the_high_byte():
    expected = torch.from_numpy((VALUES_16 >> 8).astype(np.uint8)).expand(3, -1, -1)
    for same in (Image.fromarray(VALUES_16), VALUES_16, VALUES_16.astype('>u2'),
                 VALUES_16[:, :, None], VALUES_16.astype(np.int64),
                 torch.from_numpy(VALUES_16.astype(np.int32))[None]):
        assert torch.equal(to_rgb_tensor(same), expected)
    # Older versions of Pillow open a 16-bit PNG as 'I', whatever its values.
    dark = Image.fromarray((VALUES_16 >> 8).astype(np.int32))
    dark.format = 'PNG'
    assert not to_rgb_tensor(dark).any()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_floating_point_is_the_picture_that_it_was_made_from(dtype):
    expected = to_rgb_tensor(COLOURS)
    assert torch.equal(to_rgb_tensor(expected.to(dtype) / 255), expected)
    array = expected.permute(1, 2, 0).numpy() / 255
    assert torch.equal(to_rgb_tensor(array), expected)


def test_floating_point_file_equals_its_array():
    values = GENERATOR.rand(20, 30).astype(np.float32)
    expected = np.rint(values * 255).astype(np.uint8)
    data = encoded(Image.fromarray(values), 'TIFF')
    for image in (decode_rgb(data), to_rgb_tensor(values)):
        np.testing.assert_array_equal(image[1].numpy(), expected)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', ['RGB', 'I;16', 'P'])
def test_exif_orientation(name, orientation):
    image = PICTURES[name][0]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(image, 'PNG', exif=exif)
    expected = decode_rgb(data)
    assert expected.shape == ((3, 30, 20) if orientation >= 5 else (3, 20, 30))
    opened = Image.open(io.BytesIO(data))
    assert torch.equal(to_rgb_tensor(opened), expected)
    assert torch.equal(to_rgb_tensor(opened.copy()), expected)


@pytest.mark.parametrize('name, values', {
    'int32 of 8 bits': VALUES_16.astype(np.int32) % 200,
    'int32 below 0': VALUES_16.astype(np.int32) - 2**12,
    'int32 of 17 bits': VALUES_16.astype(np.int32) * 2,
    'float of 8 bits': (VALUES_16 % 255).astype(np.float32),
    'nan': np.full((20, 30), np.nan, np.float32),
}.items())
def test_pixels_without_an_agreed_range_are_refused_by_every_way(name, values):
    """Nothing is clipped to white, or taken for something it may not be."""
    image = Image.fromarray(values)
    for way in (lambda: to_rgb_tensor(image), lambda: to_rgb_tensor(values),
                lambda: to_rgb_tensor(torch.from_numpy(values)[None]),
                lambda: decode_rgb(encoded(image, 'TIFF'))):
        with pytest.raises(ConfigurationError, match='no agreed range'):
            way()
