"""``mixedae_mm.load``: every kind of picture, every kind of checkpoint."""
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import transformers
from test_interop.foreign_checkpoints import (DEPTH, HEADS, PATCH, SIZE, WIDTH,
                                              classifier_model, hf_mae_model,
                                              mixedae_model, mm_checkpoint,
                                              timm_model)
from PIL import Image
from small_vit import backbone, randomize
from skimage.data import astronaut, camera
from torchvision.transforms import v2

import mixedae_mm
from mixedae_mm.apis.encoder import Encoder
from mixedae_mm.datasets.decode import UnreadableImageError
from mixedae_mm.interop.convert import convert
from mixedae_mm.interop.reading import read_vit
from mixedae_mm.utils.errors import ConfigurationError

LENGTH = (SIZE // PATCH)**2


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'mixedae.pth'
    torch.manual_seed(0)
    mm_checkpoint(path, mixedae_model())
    return path


@pytest.fixture(scope='module')
def encoder(checkpoint):
    return mixedae_mm.load(checkpoint)


def photograph():
    return Image.fromarray(astronaut())


def test_preprocessing_and_features_by_hand(checkpoint, encoder):
    """Against torchvision's transforms and the pre-training model itself."""
    model = mm_checkpoint(checkpoint.with_name('again.pth'), mixedae_model())
    transform = v2.Compose([
        v2.PILToTensor(),
        v2.Resize(round(SIZE * 256 / 224), v2.InterpolationMode.BICUBIC,
                  antialias=True),
        v2.CenterCrop(SIZE)])
    image = transform(photograph()).float()[None]
    mean = torch.tensor([120., 110., 100.]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    with torch.no_grad():
        want, = model.backbone((image - mean) / std)
    cls, patches = encoder.encode(photograph())
    assert cls.shape == (1, WIDTH) and patches.shape == (1, LENGTH, WIDTH)
    assert cls.dtype == patches.dtype == torch.float32
    torch.testing.assert_close(cls, want[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(patches, want[:, 1:], rtol=0, atol=1e-5)


def test_every_kind_of_picture_is_the_same_picture(encoder, tmp_path):
    pixels, grey = astronaut(), camera()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    photograph().save(tmp_path / 'photo.png')
    want, _ = encoder.encode(photograph())
    for exact in (pixels, tensor, pixels[None], tensor[None],
                  tmp_path / 'photo.png', str(tmp_path / 'photo.png'), tmp_path,
                  [photograph()], iter([pixels])):
        assert torch.equal(encoder.encode(exact)[0], want)
    for rounded in (tensor / 255, pixels.astype(np.float64) / 255):
        torch.testing.assert_close(encoder.encode(rounded)[0], want,
                                   rtol=0, atol=0.05)
    want, _ = encoder.encode(np.stack([grey] * 3, axis=-1))
    for same in (grey, Image.fromarray(grey), torch.from_numpy(grey)[None],
                 Image.fromarray(grey).convert('RGBA')):
        assert torch.equal(encoder.encode(same)[0], want)
    (tmp_path / 'torn.jpg').write_bytes(b'\xff\xd8\xff')
    with pytest.raises(UnreadableImageError, match='torn.jpg'):
        encoder.encode(tmp_path)


def test_lists_folders_and_batches(encoder, tmp_path):
    pictures = [Image.fromarray(astronaut()[i:i + 99, 7 * i:]) for i in range(12)]
    (tmp_path / 'sub').mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f'{"sub/" if i > 9 else ""}{i}.png')
    want = torch.cat([encoder.encode(picture).patches for picture in pictures])
    for batch_size in (1, 5, 32):
        got = encoder.encode(tmp_path, batch_size=batch_size)
        assert len(got.cls) == 12
        torch.testing.assert_close(got.patches, want, rtol=0, atol=1e-5)
    mixed = encoder.encode([pictures[0], tmp_path, torch.rand(3, 80, 90)])
    assert len(mixed.cls) == 14
    sizes = [len(part.cls) for part in encoder.batches(tmp_path, batch_size=5)]
    assert sizes == [5, 5, 2]
    torch.testing.assert_close(
        encoder.features(tmp_path), want.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        encoder.features(tmp_path, 'cls'), encoder.encode(tmp_path).cls)


def test_other_sizes_interpolate_positions(checkpoint, encoder):
    larger = mixedae_mm.load(checkpoint, 'cpu', img_size=(2 * SIZE, SIZE))
    assert larger.encode(photograph()).patches.shape == (1, 2 * LENGTH, WIDTH)
    for fact in (str(checkpoint), f'{DEPTH} layers of width {WIDTH}',
                 f'{HEADS} heads', f'{2 * SIZE} x {SIZE}', 'cpu'):
        assert fact in repr(larger)
    for wrong in (SIZE + 1, 0, (SIZE, SIZE, SIZE), (SIZE, 8), SIZE + .5, '224'):
        with pytest.raises(ConfigurationError, match='multiples of the patch size'):
            mixedae_mm.load(checkpoint, img_size=wrong)


def test_only_gpus_of_cuda_are_chosen(checkpoint, monkeypatch):
    """On Apple's, bfloat16 and bicubic kernels fail with older PyTorch."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'mps')
    assert mixedae_mm.load(checkpoint).device.type in ('cpu', 'cuda')


def test_mixed_precision_is_close(checkpoint, encoder):
    half = mixedae_mm.load(checkpoint, amp=True).features(photograph())
    full = encoder.features(photograph())
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(half, full).item() > 0.999
    assert not torch.equal(half, full)


@pytest.mark.parametrize('to', ['timm', 'hf', 'hf-mae', 'mae', 'mm'])
def test_converted_checkpoints_load(checkpoint, encoder, tmp_path, to):
    convert(checkpoint, tmp_path / to, to)
    heads = HEADS if to == 'mae' else None  # which cannot say it
    other = mixedae_mm.load(tmp_path / to, heads=heads)
    got, want = other.encode(photograph()), encoder.encode(photograph())
    atol = 1e-5
    if to == 'mae':  # nor mean and standard deviation: ImageNet's then
        assert other.description.mean == pytest.approx((123.675, 116.28, 103.53))
        other.preprocessing = encoder.preprocessing
        got = other.encode(photograph())
    torch.testing.assert_close(got.patches, want.patches, rtol=0, atol=atol)


def test_preprocessing_of_the_libraries_is_ours(checkpoint, encoder, tmp_path):
    """A photograph that is not square, through their code, from their files."""
    picture = Image.fromarray(astronaut()[:301, :420])
    want = encoder.preprocessing(
        torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    convert(checkpoint, tmp_path / 'hf', 'hf')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'hf')
    got, = processor(picture, return_tensors='pt')['pixel_values']
    # One level of 255 where Pillow and torchvision round otherwise.
    assert (got - want).abs().mean() < 0.01 and got.shape == want.shape

    convert(checkpoint, tmp_path / 'timm', 'timm')
    model = timm.create_model(f'local-dir:{tmp_path}/timm', pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    assert (transform(picture) - want).abs().mean() < 0.01


@pytest.mark.parametrize('pooling', ['mean', 'cls'])
def test_fine_tuned_classifier(tmp_path, pooling):
    model = mm_checkpoint(tmp_path / 'c.pth', classifier_model(pooling))
    encoder = mixedae_mm.load(tmp_path / 'c.pth')
    image = encoder.preprocessing(torch.from_numpy(astronaut()).permute(2, 0, 1))
    with torch.no_grad():
        want = model(image[None], mode='tensor')
        pooled = model.extract_feat(image[None], stage='backbone')[-1]
    torch.testing.assert_close(
        encoder.classify(photograph()), want, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        encoder.features(photograph(), pooling), pooled, rtol=0, atol=1e-5)


def test_a_head_that_needs_something_else_is_not_used(tmp_path):
    """mmpretrain's linear probe has a batch norm before its classifier."""
    config = dict(classifier_model('cls'),
                  neck=dict(type='ClsBatchNormNeck', input_features=WIDTH))
    mm_checkpoint(tmp_path / 'probe.pth', config)
    encoder = mixedae_mm.load(tmp_path / 'probe.pth')
    assert encoder.encode(photograph()).cls.shape == (1, WIDTH)
    with pytest.raises(ConfigurationError, match='probe.pth has no classifier'):
        encoder.classify(photograph())


def test_foreign_checkpoints_load(tmp_path):
    hf_mae_model().save_pretrained(tmp_path / 'mae')
    assert mixedae_mm.load(tmp_path / 'mae').description.encoder.depth == DEPTH
    torch.save(timm_model().state_dict(), tmp_path / 'timm.pth')
    assert mixedae_mm.load(tmp_path / 'timm.pth', heads=HEADS).encode(
        photograph()).cls.shape == (1, WIDTH)


@pytest.mark.parametrize('wrong, message', [
    (np.zeros((4, 4, 5), np.uint8), r'has shape \(H, W, 3\)'),
    (torch.zeros(4, 4), r'has shape \(3, H, W\)'),
    (torch.full((3, 4, 4), 2.), 'goes from 2 to 2'),
    (torch.full((3, 4, 4), torch.nan), 'goes from nan to nan'),
    (torch.zeros(3, 4, 4, dtype=torch.int64), 'uint8 in 0..255.*torch.int64'),
    (np.zeros((4, 4, 3), object), 'real numbers.*object'),
    (17, 'int is not an image'),
    (b'content of a file', 'bytes is not an image'),
    ('nowhere.jpg', 'nowhere.jpg is neither an image file nor a folder'),
    ([], 'no image to encode'),
])
def test_what_is_no_picture_is_refused(encoder, wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        encoder.encode(wrong)


def test_the_grid_beside_the_weights_counts(tmp_path, capfd):
    """16 positions that were learnt on 2 x 8 patches are not taken for 4 x 4."""
    weights = randomize(backbone(img_size=(16, 64))).state_dict()
    torch.save(weights, tmp_path / 'weights.pth')
    encoder = mixedae_mm.load(tmp_path / 'weights.pth', heads=2)
    assert encoder.description.img_size == (16, 64)
    assert torch.equal(encoder.model.backbone.pos_embed, weights['pos_embed'])
    assert 'patch grid' not in ''.join(capfd.readouterr())


@pytest.mark.parametrize('start', ['model.backbone.', 'averaged.module.backbone.',
                                   'encoder.'])
def test_the_only_vit_of_a_file_is_found_below_any_name(tmp_path, start):
    weights = randomize(backbone(img_size=(16, 64))).state_dict(prefix=start)
    torch.save(dict(state_dict=weights, steps=5), tmp_path / 'weights.pth')
    encoder = mixedae_mm.load(tmp_path / 'weights.pth', heads=2)
    assert encoder.description.img_size == (16, 64)
    assert torch.equal(encoder.model.backbone.cls_token, weights[f'{start}cls_token'])


def test_fingerprint_tells_weights_preprocessing_and_norms_apart(
        checkpoint, encoder, tmp_path):
    assert mixedae_mm.load(checkpoint).fingerprint() == encoder.fingerprint()
    changed = torch.load(checkpoint)
    changed['state_dict']['backbone.ln1.bias'][0] += 1e-3
    torch.save(changed, tmp_path / 'changed.pth')
    others = [mixedae_mm.load(tmp_path / 'changed.pth')]
    vit = read_vit(str(checkpoint))
    for change in (dict(norm_eps=1e-12), dict(mean=(0., 0., 0.)),
                   dict(std=(255., 255., 255.))):
        sizes = replace(vit.description, **change)
        others.append(Encoder(replace(vit, description=sizes)))
    fingerprints = {other.fingerprint() for other in [encoder, *others]}
    assert len(fingerprints) == 5


@pytest.mark.parametrize('name', ['mean', 'std'])
def test_as_many_numbers_as_channels(checkpoint, name):
    vit = read_vit(str(checkpoint))
    sizes = replace(vit.description, **{name: (1., ) * 4})
    with pytest.raises(ConfigurationError, match='3 channels.* [34] and [34]'):
        Encoder(replace(vit, description=sizes))
