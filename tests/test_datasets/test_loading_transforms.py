"""LoadImageTensor and TensorRandomResizedCrop against their references."""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from mixedae_mm.datasets import (LoadImageTensor, TensorRandomResizedCrop,
                                 UnreadableImageError)
from mixedae_mm.utils.errors import ConfigurationError


def test_load(tmp_path, photograph, as_array):
    path = str(tmp_path / 'image.png')
    photograph.save(path)
    results = LoadImageTensor(min_side=167)(dict(img_path=path))
    np.testing.assert_array_equal(as_array(results['img']), np.asarray(photograph))
    assert results['img_shape'] == results['ori_shape'] == (167, 250)
    with pytest.raises(UnreadableImageError, match=f'{path}.*at least 168'):
        LoadImageTensor(min_side=168)(dict(img_path=path))
    with pytest.raises(FileNotFoundError, match='missing.jpg'):
        LoadImageTensor()(dict(img_path=str(tmp_path / 'missing.jpg')))


@pytest.mark.parametrize('shape', [(375, 500), (64, 64), (3, 20000), (1, 1)])
def test_boxes_are_torchvisions(shape):
    """With MAE's ranges, if none are given."""
    transform = TensorRandomResizedCrop(4)
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    torch.manual_seed(0)
    boxes = [transform(dict(img=image))['crop_box'] for _ in range(20)]
    torch.manual_seed(0)
    assert boxes == [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3])
                     for _ in range(20)]


@pytest.mark.parametrize('size', [224, 64, (32, 96)])
@pytest.mark.parametrize('shape', [(375, 500), (1500, 2000), (60, 45)])
def test_pixels_are_those_of_pillows_bicubic(size, shape, photograph, as_array):
    photograph = photograph.resize(shape[::-1], Image.BICUBIC)
    image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    torch.manual_seed(sum(shape))
    transform = TensorRandomResizedCrop(size)
    for _ in range(3):
        results = transform(dict(img=image))
        top, left, height, width = results['crop_box']
        out_height, out_width = (size, size) if isinstance(size, int) else size
        expected = photograph.crop(
            (left, top, left + width, top + height)).resize(
                (out_width, out_height), Image.BICUBIC)
        difference = as_array(results['img']) - np.asarray(expected).astype(int)
        assert results['img'].dtype == torch.uint8
        assert results['img_shape'] == (out_height, out_width)
        # Both round and clip between a horizontal and a vertical pass; Pillow
        # 13 chooses which comes first by the shape, PyTorch does not.
        assert np.abs(difference).mean() < 0.3
        assert np.abs(difference).max() <= 12


@pytest.mark.parametrize('arguments, message', [
    (dict(size=0), 'size of the crop is 0'),
    (dict(size=(4, 4, 4)), r'size of the crop is \(4, 4, 4\)'),
    (dict(size=8, scale=(0, 1)), r'scale must be \(low, high\) with 0 < low'),
    (dict(size=8, scale=(0.5, 1.5)), '<= 1, got'),
    (dict(size=8, ratio=(2, 1)), r'ratio must be \(low, high\)'),
    (dict(size=8, interpolation='nearest'), "must be one of .*'bicubic', 'bilinear'"),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        TensorRandomResizedCrop(**arguments)
