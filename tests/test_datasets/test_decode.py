"""Decoding against Pillow, and what bad files get.

One picture is one tensor, whichever way it comes in: file, PIL image, array, tensor.
"""
import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from images import encoded, many_scans, oriented
from PIL import Image, ImageOps

from mixedae_mm.datasets.decode import (MAX_JPEG_SCANS, MAX_PIXELS,
                                        UnreadableImageError, decode_rgb)
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.preprocessing import to_rgb_tensor
from reliability.lives import in_processes

VALUES_16 = np.random.RandomState(0).randint(0, 2**16, (20, 30)).astype(np.uint16)


def reference(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert('RGB')).astype(np.int64)


def with_alpha(image):
    width, height = image.size
    ramp = (np.indices((height, width)).sum(0) % 256).astype(np.uint8)
    image = image.copy()
    image.putalpha(Image.fromarray(ramp))
    return image


CASES = {
    'jpeg': lambda im: encoded(im, 'JPEG', quality=90),
    'jpeg 4:4:4': lambda im: encoded(im, 'JPEG', quality=95, subsampling=0),
    'jpeg progressive': lambda im: encoded(im, 'JPEG', progressive=True),
    'jpeg grey': lambda im: encoded(im.convert('L'), 'JPEG'),
    'jpeg cmyk': lambda im: encoded(im.convert('CMYK'), 'JPEG', quality=95),
    'jpeg of two pictures': lambda im: encoded(
        im, 'MPO', save_all=True, append_images=[im.rotate(180)]),
    'png': lambda im: encoded(im, 'PNG'),
    'png grey': lambda im: encoded(im.convert('L'), 'PNG'),
    'png alpha': lambda im: encoded(with_alpha(im), 'PNG'),
    'png grey alpha': lambda im: encoded(with_alpha(im.convert('L')), 'PNG'),
    'png palette': lambda im: encoded(im.quantize(64), 'PNG'),
    'png palette transparent': lambda im: encoded(
        im.quantize(64), 'PNG', transparency=3),
    'png bilevel': lambda im: encoded(im.convert('1'), 'PNG'),
    'png animated': lambda im: encoded(
        im, 'PNG', save_all=True, append_images=[im.rotate(180)]),
    'webp': lambda im: encoded(im, 'WEBP', quality=90),
    'webp alpha': lambda im: encoded(with_alpha(im), 'WEBP', lossless=True),
    'webp animated': lambda im: encoded(
        im, 'WEBP', lossless=True, save_all=True, append_images=[im.rotate(180)]),
    'gif animated': lambda im: encoded(
        im, 'GIF', save_all=True, append_images=[im.rotate(180)]),
    'bmp': lambda im: encoded(im, 'BMP'),
    'tiff': lambda im: encoded(im, 'TIFF', compression='tiff_lzw'),
    'tiff cmyk': lambda im: encoded(im.convert('CMYK'), 'TIFF'),
    'tiff ycbcr': lambda im: encoded(im.convert('YCbCr'), 'TIFF'),
    'ppm': lambda im: encoded(im, 'PPM'),
}


@pytest.mark.parametrize('case', CASES)
def test_equals_pillow(case, photograph, as_array):
    data = CASES[case](photograph)
    try:
        expected = reference(data)
    except OSError as error:  # YCbCr in TIFF, of Pillow 12.3
        pytest.skip(f'Pillow cannot read what it wrote: {error}')
    image = decode_rgb(data, 'whatever-its-ending.jpg')
    assert image.dtype == torch.uint8 and image.shape == (3, 167, 250)
    np.testing.assert_array_equal(as_array(image), expected)
    opened = Image.open(io.BytesIO(data))
    assert torch.equal(to_rgb_tensor(opened), image)
    assert torch.equal(to_rgb_tensor(opened.copy()), image)
    if opened.mode not in ('P', 'CMYK', 'YCbCr'):  # arrays do not say these
        pixels = np.array(opened)
        assert torch.equal(to_rgb_tensor(pixels), image)
        if pixels.ndim == 3:
            tensor = torch.from_numpy(pixels).permute(2, 0, 1)
            assert torch.equal(to_rgb_tensor(tensor), image)


@pytest.mark.parametrize('format, mode', [
    ('JPEG', 'RGB'), ('PNG', 'RGB'), ('WEBP', 'RGB'), ('TIFF', 'RGB'), ('PNG', 'P'),
    ('PNG', 'I;16')])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(format, mode, orientation, photograph, as_array):
    image = (Image.fromarray(VALUES_16).resize((250, 167)) if mode == 'I;16' else
             photograph.convert(mode))
    data = encoded(image, format, exif=oriented(orientation))
    decoded = decode_rgb(data)
    assert decoded.shape[1:] == ((250, 167) if orientation >= 5 else (167, 250))
    if mode != 'I;16':  # which Pillow clips
        np.testing.assert_array_equal(as_array(decoded), reference(data))
    opened = Image.open(io.BytesIO(data))
    assert torch.equal(to_rgb_tensor(opened), decoded)
    assert torch.equal(to_rgb_tensor(opened.copy()), decoded)


def png_16_bit(values):
    """A 16-bit PNG of (H, W, C) values, C = 1 (grey) or 3."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack('>I', len(content)) + name + content + struct.pack(
            '>I', crc)

    height, width, channels = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>2I5B', width, height, 16, 0 if channels == 1 else 2,
                         0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) +
            chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def test_16_bits_keep_the_high_byte(as_array):
    for values in (VALUES_16, np.stack([VALUES_16, VALUES_16 // 2, VALUES_16], -1)):
        channels = values.reshape(20, 30, -1)
        np.testing.assert_array_equal(
            as_array(decode_rgb(png_16_bit(channels))),
            np.broadcast_to(channels >> 8, (20, 30, 3)))
    expected = torch.from_numpy((VALUES_16 >> 8).astype(np.uint8)).expand(3, -1, -1)
    wider = Image.fromarray(VALUES_16.astype(np.int32))
    for same in (Image.fromarray(VALUES_16), wider, VALUES_16, VALUES_16.astype('>u2'),
                 VALUES_16[:, :, None], VALUES_16.astype(np.int64),
                 torch.from_numpy(VALUES_16.astype(np.int32))[None]):
        assert torch.equal(to_rgb_tensor(same), expected)
    for image in (Image.fromarray(VALUES_16), wider):
        assert torch.equal(decode_rgb(encoded(image, 'TIFF')), expected)
    # Older versions of Pillow open a 16-bit PNG as 'I', whatever its values.
    dark = Image.fromarray((VALUES_16 >> 8).astype(np.int32))
    dark.format = 'PNG'
    assert not to_rgb_tensor(dark).any()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_floating_point_is_the_picture_that_it_was_made_from(dtype, photograph):
    expected = to_rgb_tensor(photograph)
    assert torch.equal(to_rgb_tensor(expected.to(dtype) / 255), expected)
    grey = (expected[0].double() / 255).numpy()
    assert torch.equal(to_rgb_tensor(grey)[1], expected[0])
    data = encoded(Image.fromarray(grey.astype(np.float32)), 'TIFF')
    assert torch.equal(decode_rgb(data)[1], expected[0])


@pytest.mark.parametrize('values', [
    VALUES_16.astype(np.int32) % 200, VALUES_16.astype(np.int32) - 2**12,
    VALUES_16.astype(np.int32) * 2, (VALUES_16 % 255).astype(np.float32),
    np.full((20, 30), np.nan, np.float32)],
    ids=['int32 of 8 bits', 'int32 below 0', 'int32 of 17 bits', 'float of 8 bits',
         'nan'])
def test_pixels_without_an_agreed_range_are_refused_by_every_way(values):
    """Nothing is clipped to white, or taken for something it may not be."""
    image = Image.fromarray(values)
    for way in (lambda: to_rgb_tensor(image), lambda: to_rgb_tensor(values),
                lambda: to_rgb_tensor(torch.from_numpy(values)[None]),
                lambda: decode_rgb(encoded(image, 'TIFF'))):
        with pytest.raises(ConfigurationError, match='no agreed range'):
            way()


def bomb():
    """A PNG that announces 50000 x 50000 pixels, 7.5 GB, in a few bytes."""
    data = bytearray(png_16_bit(np.zeros((2, 2, 3), int)))
    data[16:24] = struct.pack('>2I', 50000, 50000)
    data[29:33] = struct.pack('>I', zlib.crc32(bytes(data[12:29])))
    return bytes(data)


BAD = {
    'empty': (lambda im: b'', 'the file is empty'),
    'text': (lambda im: b'<html>404</html>' * 9, 'of the known image formats'),
    'postscript': (lambda im: encoded(im, 'EPS'), 'of the known image formats'),
    'zeros': (lambda im: bytes(1000), 'of the known image formats'),
    'bomb': (lambda im: bomb(), f'pixels, allowed are {MAX_PIXELS}'),
    'scans': (lambda im: many_scans(im, MAX_JPEG_SCANS + 1),
              f'scans, allowed are {MAX_JPEG_SCANS}'),
}
for _format in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF'):
    for _share in (0.05, 0.5, 0.95):
        BAD[f'{_format} truncated to {_share}'] = (
            lambda im, f=_format, s=_share: (
                lambda data: data[:int(len(data) * s)])(encoded(im, f)),
            'damaged, truncated or unsupported|not in one of the known')


@pytest.mark.parametrize('case', BAD)
def test_bad_files_are_named(case, photograph):
    make, reason = BAD[case]
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        decode_rgb(make(photograph), 'some/path.jpg')
    message = str(caught.value)
    assert message.startswith('Cannot read the image some/path.jpg: ')
    assert '\n' not in message and message.endswith('.')
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize('size', [(250, 167), (1, 1), (20000, 3), (3, 20000)])
def test_limits_are_arguments(size):
    data = encoded(Image.new('RGB', size, (10, 200, 30)), 'JPEG')
    pixels, side = size[0] * size[1], min(size)
    assert decode_rgb(data, max_pixels=pixels, min_side=side).shape == (3, *size[::-1])
    with pytest.raises(UnreadableImageError,
                       match=f'{size[0]} x {size[1]} = {pixels} pixels'):
        decode_rgb(data, max_pixels=pixels - 1)
    with pytest.raises(UnreadableImageError, match=f'at least {side + 1}'):
        decode_rgb(data, min_side=side + 1)


def decode_damaged_files():
    """How many of 360 files are decoded; the others must be refused."""
    decoded = 0
    image = Image.linear_gradient('L').resize((60, 40)).convert('RGB')
    for format in ('JPEG', 'PNG', 'WEBP', 'GIF', 'TIFF', 'BMP'):
        for seed in range(60):
            generator = random.Random(seed)
            data = bytearray(encoded(image, format))
            for _ in range(generator.choice([1, 5, 50])):
                data[generator.randrange(len(data))] = generator.randrange(256)
            try:
                assert decode_rgb(bytes(data)).shape[0] == 3
                decoded += 1
            except UnreadableImageError:
                pass
    return decoded


@pytest.mark.slow
def test_damaged_files_never_kill_the_process():
    """In a process of its own, since the danger is a crash of the decoder."""
    assert 20 < in_processes(decode_damaged_files, 1) < 340
