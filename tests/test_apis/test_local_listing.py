"""One process alone may read a folder: listing it waits for nobody."""
from mmengine import dist
from PIL import Image
from skimage.data import coffee
from test_interop.foreign_checkpoints import mixedae_model, mm_checkpoint

import mixedae_mm
from mixedae_mm.analysis.loading import find_images
from mixedae_mm.apis.features import write_features


def waits(*args, **kwargs):
    raise AssertionError('every other process would have to call this too')


def test_analysis_and_encoder_list_alone(tmp_path, monkeypatch):
    images = tmp_path / 'images'
    images.mkdir()
    for name in ('b', 'a'):
        Image.fromarray(coffee()).save(images / f'{name}.png')
    for name in ('barrier', 'broadcast_object_list', 'all_gather_object'):
        monkeypatch.setattr(dist, name, waits)
    assert find_images(images) == [str(images / 'a.png'), str(images / 'b.png')]
    mm_checkpoint(tmp_path / 'model.pth', mixedae_model())
    encoder = mixedae_mm.load(tmp_path / 'model.pth', 'cpu')
    assert len(encoder.encode(images).cls) == 2
    done = write_features(str(images), str(tmp_path / 'out'), encoder, num_workers=0)
    assert done.num_images == 2
