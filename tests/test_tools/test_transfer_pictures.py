"""What is drawn of a detector's many boxes."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from transfer.pictures import draw_detections, most_certain


def prediction(scores):
    """Boxes and masks which tell by their place what score they have."""
    number = len(scores)
    places = torch.arange(number)
    return SimpleNamespace(pred_instances=InstanceData(
        scores=torch.tensor(scores), labels=places % 3,
        bboxes=places[:, None].float().expand(-1, 4),
        masks=places[:, None, None] == torch.arange(4).view(2, 2)))


@pytest.mark.parametrize('number, places', [
    (0, []), (1, [2]), (2, [0, 2]), (4, [3, 1, 0, 2]), (9, [3, 1, 0, 2])])
def test_the_most_certain_objects_lie_on_top(number, places):
    scores = [0.3, 0.2, 0.9, 0.1]
    objects = most_certain(prediction(scores), number)
    assert objects.labels == [place % 3 for place in places]
    assert objects.boxes[:, 0].tolist() == places
    assert [mask.ravel().argmax() for mask in objects.masks] == places
    assert np.allclose(objects.scores, [scores[place] for place in places])


def test_scores_are_written_into_the_picture_of_a_prediction_only(tmp_path):
    from PIL import Image
    Image.new('RGB', (2, 2)).save(tmp_path / 'a.png')
    found = most_certain(prediction([0.25, 0.75]), 2)
    figure = draw_detections(
        [tmp_path / 'a.png'], [found._replace(scores=())], {'MAE': [found]},
        [(255, 0, 0)] * 3)
    truth, mae = figure.axes
    assert [axes.get_title() for axes in (truth, mae)] == ['truth', 'MAE']
    assert [text.get_text() for text in truth.texts] == []
    assert [text.get_text() for text in mae.texts] == ['0.25', '0.75']
