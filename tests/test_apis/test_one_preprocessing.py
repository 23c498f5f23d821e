"""One picture has one crop and one feature vector, whichever tool looks at it."""
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import coffee
from test_interop.foreign_checkpoints import (DEPTH, classifier_model,
                                              mixedae_model, mm_checkpoint)

import mixedae_mm
from mixedae_mm.analysis.folder_measures import (folder_attention_maps,
                                                 folder_mixing_panels,
                                                 folder_topk_accuracy)
from mixedae_mm.analysis.frozen_features import (build_labelled_dataset,
                                                 extract_features,
                                                 labelled_folder)
from mixedae_mm.analysis.loading import image_size_of, in_order_of_training, load_images
from mixedae_mm.analysis.object_awareness import attention_on_objects
from mixedae_mm.analysis.object_masks import MaskedImage
from mixedae_mm.analysis.reconstruction import reconstruction_loss
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.preprocessing import evaluation_crop

READOUT = f'layer_{DEPTH:02d}/mean'


def changed(part, **changes):
    config = mixedae_model()
    config[part].update(changes)
    return config


PRETRAINED = dict(
    square=mixedae_model(),
    from_bgr=changed('data_preprocessor', bgr_to_rgb=True),  # as OpenCV reads them
    wide=changed('backbone', img_size=(48, 96)))
FINE_TUNED = dict(fine_tuned=dict(classifier_model('mean'), data_preprocessor=dict(
    mean=[120., 110., 100.], std=[60., 61., 62.], to_rgb=True)))
MODELS = {**PRETRAINED, **FINE_TUNED}


@pytest.fixture
def pictures(tmp_path):
    """Four copies of one picture that is not square, in a folder of one class."""
    folder = tmp_path / 'pictures/train/coffee'
    folder.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(coffee()[:301, :420]).save(folder / f'{i}.png')
    return folder


def labelled_features(model, folder):
    size = image_size_of(model.backbone)
    dataset = build_labelled_dataset(labelled_folder(folder.parent, size))
    return extract_features(model, dataset, [READOUT], rgb=True).features[READOUT]


def reconstruction(model, paths):
    images = torch.stack([
        image for _, image in load_images(paths, image_size_of(model.backbone))])
    reconstruction_loss(model, in_order_of_training(model, images))


def object_awareness(model, paths):
    mask = np.zeros((301, 420), bool)
    attention_on_objects(
        dict(model=model), [MaskedImage(path, mask, ~mask) for path in paths],
        image_size_of(model.backbone))


TOOLS = dict(
    labelled=lambda model, paths, folder: labelled_features(model, folder),
    topk=lambda model, paths, folder: folder_topk_accuracy(model, paths)[0],
    attention=lambda model, paths, folder: list(folder_attention_maps(
        dict(model=model), paths, image_size_of(model.backbone))),
    panels=lambda model, paths, folder: list(folder_mixing_panels(model, paths)),
    objects=lambda model, paths, folder: object_awareness(model, paths),
    reconstruction=lambda model, paths, folder: reconstruction(model, paths))


@pytest.mark.parametrize('name', MODELS)
def test_every_tool_shows_the_model_the_same(name, pictures, tmp_path):
    """A mix of four copies of a picture is that picture, with one feature vector."""
    model = mm_checkpoint(tmp_path / 'model.pth', MODELS[name])
    encoder = mixedae_mm.load(tmp_path / 'model.pth', 'cpu')
    features = encoder.features(pictures)
    assert torch.equal(features[:1], encoder.features(pictures / '0.png'))
    torch.testing.assert_close(
        labelled_features(model, pictures), features, rtol=0, atol=1e-5)
    if name not in PRETRAINED:
        return
    want = encoder.preprocessing(torch.from_numpy(
        np.array(Image.open(pictures / '0.png'))).permute(2, 0, 1))
    paths = [str(path) for path in sorted(pictures.iterdir())]
    seen = []
    model.backbone.patch_embed.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0]))
    for tool, run in TOOLS.items():
        seen.clear()
        run(model, paths, pictures)
        assert seen, tool
        for image in torch.cat(seen):
            torch.testing.assert_close(
                image, want, rtol=0, atol=1e-5, msg=lambda text: f'{tool}: {text}')


def test_the_margin_is_an_argument():
    image = torch.from_numpy(coffee()).permute(2, 0, 1)  # (3, 400, 600)
    all_of_it = evaluation_crop(image, (200, 300), margin=1)
    assert all_of_it.shape == (3, 200, 300)
    half = evaluation_crop(image, (200, 300), margin=2)  # nothing to resize
    assert (half.int() - image[:, 100:300, 150:450]).abs().max() <= 1
    for size, margin in ((0, 1), ((4, 4, 4), 1), (4.5, 1), (4, 0.5), (4, float('nan'))):
        with pytest.raises(ConfigurationError):
            evaluation_crop(image, size, margin)
