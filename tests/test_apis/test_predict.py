"""What is written of a prediction."""
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mixedae_mm.apis.predict import _described


@pytest.mark.parametrize('size', [(1, 5), (5, 1), (1, 1)])
def test_an_image_of_one_row_or_column_is_segmented(tmp_path, size):
    labels = torch.ones(1, *size, dtype=torch.int64)
    sample = BaseDataElement(pred_sem_seg=PixelData(data=labels))
    said = _described(sample, ['ant', 'bee'], tmp_path / 'a', 0.3)
    assert said == dict(shares=dict(ant=0., bee=1.))
    assert np.array(Image.open(tmp_path / 'a_labels.png')).shape == size
