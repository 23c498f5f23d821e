"""Images of any number of channels: decoding, statistics, pre-training, features."""
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from images import encoded, many_scans, oriented
from PIL import Image
from small_vit import ARCH, mixedae

import mixedae_mm
from mixedae_mm.apis.encoder import images_of
from mixedae_mm.datasets.channels import decode_channels
from mixedae_mm.datasets.decode import UnreadableImageError
from mixedae_mm.launch.train import main as train
from mixedae_mm.models.mixedae_data_preprocessor import MixedAEDataPreprocessor
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.preprocessing import evaluation_crop

ROOT = Path(__file__).parents[2]


def pixels(channels, dtype, height=10, width=12):
    """Values of the type's whole range, channels last."""
    values = np.random.default_rng(channels).random((height, width, channels))
    if np.dtype(dtype).kind == 'f':
        return (2000 * values - 500).astype(dtype)
    limits = np.iinfo(dtype)
    return (limits.min + values * (limits.max - limits.min)).astype(dtype)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric='minisblack', **options)
    return file.getvalue()


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', '>i2', 'float32', 'float64'])
@pytest.mark.parametrize('channels', [1, 4, 13])
def test_values_stay_as_they_are(channels, dtype):
    array = pixels(channels, dtype)
    want = torch.from_numpy(array.transpose(2, 0, 1).astype(
        'uint8' if dtype == 'uint8' else 'float32'))
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    files = [npy(array), npy(planes), tiff(planes),  # a page for each channel
             tiff(planes.astype(np.dtype(dtype).newbyteorder('=')), bigtiff=True)]
    if channels == 1:
        files += [npy(array[:, :, 0]), tiff(array[:, :, 0])]
    else:
        files += [tiff(array, planarconfig='contig', compression='zlib'),
                  tiff(planes, planarconfig='separate')]
    for data in files:
        image = decode_channels(data, channels)
        assert image.dtype == want.dtype and torch.equal(image, want)


@pytest.mark.parametrize('mode', ['L', 'I;16', 'RGBA'])
@pytest.mark.parametrize('orientation', [1, 6])
def test_what_pillow_reads_keeps_its_bits_and_is_turned(mode, orientation):
    upright = (Image.fromarray(pixels(1, 'uint16')[:, :, 0]) if mode == 'I;16' else
               Image.fromarray(pixels(4, 'uint8')).convert(mode))
    lying = upright
    if orientation == 6:  # on its side, to be turned clockwise
        lying = upright.transpose(Image.Transpose.ROTATE_90)
    image = decode_channels(encoded(lying, 'PNG', exif=oriented(orientation)),
                            4 if mode == 'RGBA' else 1)
    assert np.array_equal(image.numpy().transpose(1, 2, 0).squeeze(),
                          np.asarray(upright))


def npy_header(shape):
    """The begin of a file, which announces as much as it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, dict(shape=shape, fortran_order=False, descr='|u1'))
    return file.getvalue()


def with_value(value):
    array = pixels(13, 'float32')
    array[3, 5, 2] = value
    return array


PALETTE = Image.fromarray(pixels(1, 'uint8')[:, :, 0]).convert('P')


@pytest.mark.parametrize('data, facts', [
    (npy(pixels(12, 'uint16')), ['(10, 12, 12)', '13 channels', '(H, W, 13)']),
    (npy(np.zeros((3, 10, 12, 13))), ['(3, 10, 12, 13)', '13 channels']),
    (npy(pixels(13, 'int32')), ['int32', 'uint8, uint16, int16, float16']),
    (npy(np.zeros((10, 12, 13), complex)), ['complex128']),
    (npy(np.array([['a', {}]], object)), ['damaged', 'pickle']),
    (npy(pixels(13, 'uint8'))[:-9], ['damaged']),
    (tiff(pixels(13, 'uint8'))[:1000], ['truncated']),
    (tiff(pixels(13, 'uint8'), planarconfig='contig', compression='zlib')[:-900],
     ['truncated']),
    (b'II*\0nothing', ['damaged']),
    (b'nothing', ['known image formats', 'NumPy', 'PNG']),
    (b'', ['empty']),
    (npy(pixels(13, 'uint8', 5)), ['12 x 5 pixels', 'at least 8']),
    (npy(pixels(13, 'uint8', 40, 40)), ['(40, 40, 13)', '1000 pixels']),
    (npy_header((10**6, 10**6, 13)), ['(1000000, 1000000, 13)', '1000 pixels']),
    (many_scans(Image.new('RGB', (12, 10)), 500), [
        'progressive JPEG of ', ' scans', 'allowed are 100']),
    (bytes(2**21), ['2097152 bytes', '1000 pixels']),
    (tiff(pixels(13, 'uint8', 40, 40)), ['1000 pixels']),
    *[(npy(with_value(value)), [f'channel 2, row 3, column 5 is {value}'])
      for value in (float('nan'), float('-inf'))],
    # Numbers of colours are not grey values.
    *[(encoded(PALETTE, format), ['colours in a palette'])
      for format in ('PNG', 'GIF', 'TIFF')],
])
def test_a_file_that_cannot_be_used_is_named(data, facts):
    with pytest.raises(UnreadableImageError) as caught:
        decode_channels(data, 13, 'scene.tif', max_pixels=1000, min_side=8)
    message = str(caught.value)
    assert 'scene.tif' in message and '\n' not in message
    assert all(fact in message for fact in facts), message


def test_a_missing_package_is_no_damaged_image(monkeypatch):
    """It would be skipped with a warning, and so would every other one."""
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(ConfigurationError, match='pip install tifffile') as caught:
        decode_channels(tiff(pixels(4, 'uint8')), 4)
    assert not isinstance(caught.value, UnreadableImageError)


# ------------------------------------------------------------- normalisation


def test_each_channel_has_its_mean_and_standard_deviation():
    images = torch.from_numpy(pixels(13, 'uint16').transpose(2, 0, 1)
                              .astype('float32')).expand(4, -1, -1, -1)
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3), unbiased=False)
    preprocessor = MixedAEDataPreprocessor(
        patch_size=2, mean=mean.tolist(), std=std.tolist())
    done = preprocessor(dict(inputs=images))['inputs']
    torch.testing.assert_close(done.mean((0, 2, 3)), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(done.std((0, 2, 3), unbiased=False), torch.ones(13))


def test_statistics_of_another_number_of_channels_are_refused():
    images = torch.zeros(4, 13, 8, 8)
    with pytest.raises(ConfigurationError, match='13 channels, .* have 4 numbers'):
        MixedAEDataPreprocessor(mean=[1.] * 4, std=[1.] * 4)(dict(inputs=images))
    with pytest.raises(ConfigurationError, match='number of mean is nan'):
        MixedAEDataPreprocessor(mean=[1., float('nan'), 1.])
    with pytest.raises(ConfigurationError, match='mean has 4 numbers and std 3'):
        MixedAEDataPreprocessor(mean=[1.] * 4, std=[1.] * 3)
    with pytest.raises(ConfigurationError, match='bgr_to_rgb is True, .* 13 channels'):
        MixedAEDataPreprocessor(mean=[1.], std=[1.], bgr_to_rgb=True)(
            dict(inputs=images))


def test_16_bits_under_statistics_of_8_bits_are_warned_of_once(warned):
    images = torch.from_numpy(pixels(3, 'uint16').transpose(2, 0, 1).astype('float32'))
    preprocessor = MixedAEDataPreprocessor()
    for _ in range(2):
        preprocessor(dict(inputs=images[None]))
    message, = warned
    assert f'to {images.max().item():.6g}' in message and '103.53 to 123.675' in message
    MixedAEDataPreprocessor()(dict(inputs=images[None] / 257))  # of 8 bits, as float
    assert len(warned) == 1


def test_the_crop_of_other_units_is_not_cut_to_0_and_1():
    image = torch.from_numpy(pixels(4, 'float32', 40, 60).transpose(2, 0, 1)).clone()
    crop = evaluation_crop(image, 32)
    assert crop.min() < -100 and crop.max() > 900
    assert image.min() <= crop.min() and crop.max() <= image.max()


# ---------------------------------------------------------------- end to end

CONFIG = '''
_base_ = '{root}/configs/mixedae_vitb_folder.py'
channels = {channels}
shown = {shown}
model = dict(
    data_preprocessor=dict(mean={mean}, std={std}),
    backbone=dict(in_channels=channels, img_size=32, patch_size=8,
                  arch=dict(_delete_=True, **{arch})),
    neck=dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
    head=dict(proj_dim=8))
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(
        data_root='scenes', extensions=('.tif', '.npy'),
        pipeline=[
            dict(type='LoadChannels', channels=channels),
            dict(type='TensorRandomResizedCrop', size=32),
            dict(type='torchvision/RandomHorizontalFlip', p=0.5),
            dict(type='PackInputs', meta_keys=('img_path', )),
        ]))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3)
param_scheduler = []
log_processor = dict(by_epoch=False)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=3), logger=dict(interval=1))
custom_hooks = _base_.run_hooks + [
    dict(type='MixingVisualizationHook', interval=3, channels=shown),
    dict(type='TopKAccuracyHook', interval=1, num_images=4),
    dict(type='KNNEvaluationHook', interval=3, k=3, **{{
        f'{{part}}_dataset': dict(
            type='CustomDataset', data_root='fields', data_prefix=part,
            extensions=('.tif', '.npy'), pipeline=[
                dict(type='LoadChannels', channels=channels),
                dict(type='EvaluationCrop', size=32),
                dict(type='PackInputs')]) for part in ('train', 'test')}})]
work_dir = 'run'
'''


@pytest.mark.parametrize('channels', [1, 3, 4, 13])
def test_from_a_folder_to_features(channels, tmp_path, monkeypatch, capsys, command):
    """Statistics, pre-training from RGB, report, k-NN, features of the same files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'scenes').mkdir()
    for part in ('train', 'test'):
        for i in range(4):
            file = Path(f'fields/{part}/class_{i % 2}/{i}.npy')
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, pixels(channels, 'uint16', 40, 50))
    (tmp_path / 'fields/val').symlink_to('test')
    scenes = [pixels(channels, 'uint16', 40 + i, 50) for i in range(8)]
    for i, scene in enumerate(scenes):
        if i % 2:
            np.save(f'scenes/{i}.npy', scene)
        else:
            tifffile.imwrite(f'scenes/{i}.tif', scene.transpose(2, 0, 1),
                             photometric='minisblack')
    assert command('channel_statistics', 'scenes', '--channels', channels, '--out',
                   'statistics.py') == 0
    printed = Path('statistics.py').read_text()
    assert capsys.readouterr().out.endswith(printed)
    numbers: dict = {}
    exec(printed, numbers)
    assert numbers['channels'] == channels
    every = np.concatenate([scene.reshape(-1, channels) for scene in scenes])
    np.testing.assert_allclose(numbers['mean'], every.mean(0), rtol=1e-5)
    np.testing.assert_allclose(numbers['std'], every.std(0), rtol=1e-5)

    Path('mine.py').write_text(CONFIG.format(
        root=ROOT, channels=channels, arch=ARCH, mean=numbers['mean'],
        std=numbers['std'], shown=[0, channels - 1, 0]))
    torch.save(mixedae().state_dict(), 'rgb.pth')
    start = ['mine.py', '--cfg-options', 'load_from=rgb.pth']
    if channels != 3:
        assert train(start) == 2
        assert f'input channels 3 instead of {channels}' in capsys.readouterr().err
    assert train([*start, 'input_channels=mean']) == 0
    said = capsys.readouterr()
    assert (f'3 -> {channels} channels' in said.out + said.err) == (channels != 3)
    assert '3-NN accuracy [%] after 3 iterations on 4 images' in said.out + said.err
    assert command('report', 'run', '--show-channels', 0, channels - 1, 0) == 0
    page = Path('run/report.html').read_text()
    assert f' of {channels} (counted from 0) ' in page
    assert command('report', 'run', '--show-channels', 0, channels, 0) == 2
    assert f'from 0 to {channels - 1}' in capsys.readouterr().err
    assert command('knn_and_probe', 'mine.py', 'run/iter_3.pth', 'fields', '--k', 2,
                   '--num-workers', 0, '--no-random') == 0
    assert 'linear probe' in capsys.readouterr().out
    for kind, name in (('attention', 'attention.png'), ('mixing', 'mixing.png')):
        assert command('visualize', kind, 'mine.py', 'run/iter_3.pth', 'scenes') == 0
        assert Path(name).is_file()
    assert command('browse_dataset', 'mine.py', '-n', 4) == 0
    *_, log = sorted(Path('run').glob('*/vis_data/scalars.json'))
    losses = [json.loads(line).get('loss_recon') for line in log.open()]
    assert all(0.5 < loss < 5 for loss in losses if loss) and any(losses)
    assert list(Path('run').glob('*/vis_data/vis_image/mixing_*.png'))

    encoder = mixedae_mm.load('run/iter_3.pth', device='cpu')
    assert encoder.description.in_channels == channels
    features = encoder.features('scenes')
    assert features.shape == (8, ARCH['embed_dims']) and features.isfinite().all()
    in_memory = torch.from_numpy(scenes[0].transpose(2, 0, 1).astype('float32'))
    for image in (scenes[0], in_memory):
        torch.testing.assert_close(encoder.features([image])[0], features[0])
    image, = images_of('scenes/1.npy', channels)
    assert abs(encoder.preprocessing.normalize(image).mean()) < 0.2
    with pytest.raises(UnreadableImageError, match=f'{channels} channels are needed'):
        encoder.features(np.zeros((40, 40, channels + 1), 'float32'))
