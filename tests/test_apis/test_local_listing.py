"""One process alone may read a folder: listing it waits for nobody."""
import pytest
from mmengine import dist
from PIL import Image
from skimage.data import coffee
from test_interop.foreign_checkpoints import mixedae_model, mm_checkpoint

import mixedae_mm
from mixedae_mm.analysis.loading import find_images
from mixedae_mm.apis.features import write_features


@pytest.fixture
def images(tmp_path, monkeypatch):
    for name in ('b', 'a'):
        Image.fromarray(coffee()).save(tmp_path / f'{name}.png')

    def waits(*args, **kwargs):
        raise AssertionError('every other process would have to call this too')

    for name in ('barrier', 'broadcast_object_list', 'all_gather_object'):
        monkeypatch.setattr(dist, name, waits)
    return tmp_path


def test_analysis_lists_alone(images):
    assert find_images(images) == [str(images / 'a.png'), str(images / 'b.png')]


def test_the_encoder_lists_alone(images, tmp_path_factory):
    place = tmp_path_factory.mktemp('checkpoint')
    mm_checkpoint(place / 'model.pth', mixedae_model())
    encoder = mixedae_mm.load(place / 'model.pth', 'cpu')
    assert len(encoder.encode(images).cls) == 2
    done = write_features(str(images), str(place / 'out'), encoder, num_workers=0)
    assert done.num_images == 2
