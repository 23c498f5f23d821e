"""Features of folders: complete, exact, and not lost when a run is killed."""
import copy
import os
import signal
import sys
import time
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import preloaded
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, coffee
from test_interop.foreign_checkpoints import WIDTH, mixedae_model, mm_checkpoint

import mixedae_mm
from mixedae_mm.apis import features as feature_extraction
from mixedae_mm.apis import search as nearest_neighbours
from mixedae_mm.apis.feature_table import read_settings
from mixedae_mm.apis.features import parse_arguments, write_features
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import lock
from mixedae_mm.utils.preprocessing import Preprocessing

NUM_GOOD = 23
BAD = {'broken.jpg', 'deep/empty.png'}


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'mixedae.pth'
    mm_checkpoint(path, mixedae_model())
    return mixedae_mm.load(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Crops of two photographs, and two files that are no images."""
    root = tmp_path_factory.mktemp('images')
    (root / 'deep/er').mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(NUM_GOOD):
        image = (astronaut, coffee)[i % 2]()
        top, left = random.integers(0, 250, 2)
        Image.fromarray(image[top:top + 120, left:left + 100]).save(
            root / ('deep/er' if i % 3 else '.') / f'{i}.png')
    (root / 'broken.jpg').write_text('no image')
    (root / 'deep/empty.png').touch()
    return root


@pytest.fixture
def small(tmp_path):
    """A folder, and a function that puts photographs into it."""
    images = tmp_path / 'images'
    images.mkdir()

    def add(*names, picture=coffee):
        for name in names:
            Image.fromarray(picture()).save(images / name)
        return images

    return add


def extract(folder, out, encoder, **kwargs):
    kwargs = {**dict(batch_size=4, num_workers=0, progress=False), **kwargs}
    return write_features(str(folder), str(out), encoder, **kwargs)


def read(out):
    table = pyarrow.parquet.read_table(out)
    features = table.column('feature').combine_chunks().flatten().to_numpy()
    return table.column('path').to_pylist(), features.reshape(table.num_rows, -1)


def check(out, encoder, folder, pooling='mean'):
    """Every image that can be read is there once, with the encoder's features."""
    paths, features = read(out)
    assert sorted(paths) == sorted(
        {str(path.relative_to(folder)) for path in folder.rglob('*.*')} - BAD)
    assert features.dtype == np.float32 and features.shape == (len(paths), WIDTH)
    want = encoder.features([folder / path for path in paths], pooling).numpy()
    np.testing.assert_allclose(features, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize('pooling, num_workers', [('mean', 2), ('cls', 0)])
def test_features_are_the_encoders(encoder, folder, tmp_path, pooling, num_workers):
    out = tmp_path / 'out.parquet'
    done = extract(folder, out, encoder, pooling=pooling, num_workers=num_workers)
    assert done.num_images == done.num_new == NUM_GOOD and set(done.bad) == BAD
    check(out, encoder, folder, pooling)
    listed = (tmp_path / 'out.parquet.bad.tsv').read_text()
    assert 'deep/empty.png\tCannot read the image' in listed
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'out.parquet', 'out.parquet.bad.tsv']


class Interrupted(Exception):
    pass


def test_a_stopped_run_goes_on(encoder, folder, tmp_path, monkeypatch):
    """Stopped again and again; what is done is not computed twice."""
    out = tmp_path / 'out.parquet'
    monkeypatch.setattr(feature_extraction, 'SHARD_SIZE', 4)
    computed = []

    class Stopping:
        """The encoder, which gives up in its third batch."""

        def __init__(self):
            self.calls = 0

        def __getattr__(self, name):
            return getattr(encoder, name)

        def pool(self, crops, pooling):
            self.calls += 1
            if self.calls == 3:
                raise Interrupted
            computed.append(len(crops))
            return encoder.pool(crops, pooling)

    runs = 0
    while not out.exists() and runs < 20:
        runs += 1
        try:
            done = extract(folder, out, Stopping())
        except Interrupted:
            continue
    assert runs > 2 and sum(computed) == NUM_GOOD and done.num_new < NUM_GOOD
    assert set(done.bad) == BAD
    check(out, encoder, folder)


def extract_slowly(said, *arguments):
    """The command, in shards of two images, in a process group; output into a file."""
    os.setsid()
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    write_shard = feature_extraction.write_shard

    def write_slowly(*args):
        time.sleep(.3)
        write_shard(*args)

    with mock.patch.multiple(feature_extraction, SHARD_SIZE=2,
                             write_shard=write_slowly):
        sys.exit(report_errors(feature_extraction.run, parse_arguments(arguments)))


@pytest.mark.slow
def test_killed_process_loses_nothing(encoder, folder, tmp_path):
    """SIGKILL of the command, at several moments; what it says is shown."""
    out, said = tmp_path / 'out.parquet', tmp_path / 'said.txt'
    arguments = (str(said), str(folder), str(out), '--checkpoint', encoder.name,
                 '--batch-size', '2', '--workers', '1')
    for enough in (1, 4, 7):
        process = preloaded.process(extract_slowly, *arguments)
        while len(list(tmp_path.glob('out.parquet.parts/shard-*'))) < enough:
            assert process.is_alive(), said.read_text()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert not out.exists()
    last = preloaded.process(extract_slowly, *arguments)
    last.join()
    printed = said.read_text()
    assert last.exitcode == 0, printed
    assert f'{NUM_GOOD} images, ' in printed
    assert '2 unreadable images are listed' in printed
    check(out, encoder, folder)


def test_begun_with_other_settings_or_images(encoder, small, tmp_path, monkeypatch):
    """A shard whose images are other ones than before is computed again."""
    monkeypatch.setattr(feature_extraction, 'SHARD_SIZE', 2)
    images, out = small('a.png', 'b.png', 'd.png', 'e.png'), tmp_path / 'out'
    with monkeypatch.context() as patch:
        patch.setattr(feature_extraction, 'join', lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract(images, out, encoder)
    with pytest.raises(ConfigurationError, match='pooling mean instead of cls'):
        extract(images, out, encoder, pooling='cls')
    with pytest.raises(ConfigurationError, match='img_size'):
        extract(images, out, mixedae_mm.load(encoder.name, img_size=128))
    small('c.png', picture=astronaut)
    assert extract(images, out, encoder).num_new == 3
    assert read(out)[0] == [f'{name}.png' for name in 'abcde']
    check(out, encoder, images)


def test_refusals(encoder, folder, small, tmp_path, capsys):
    out, images = tmp_path / 'out', small()
    (tmp_path / 'locked.parts').mkdir()
    with lock(tmp_path / 'locked.parts/lock', ''):
        for source, place, fact in (
            (tmp_path / 'absent', out, 'absent'),
            (images, out, 'No image in the folder'),
            (folder, tmp_path, 'must be a file'),
            (folder, tmp_path / 'absent/out', 'absent does not exist'),
            (folder, tmp_path / 'locked', 'Another process is writing'),
        ):
            with pytest.raises(ConfigurationError, match=fact):
                extract(source, place, encoder)
    with pytest.raises(ConfigurationError, match='num_workers is -1'):
        extract(folder, out, encoder, num_workers=-1)
    assert not (tmp_path / 'out.parts').exists()
    with pytest.raises(SystemExit):  # before the checkpoint is loaded
        parse_arguments(['images', str(tmp_path / 'absent/out'), '--checkpoint', 'x'])
    assert 'absent does not exist' in capsys.readouterr().err
    (images / 'a.jpg').write_text('x')
    with pytest.raises(ConfigurationError, match='None of the 1 images'):
        extract(images, out, encoder)
    small('a.jpg')  # repaired
    assert extract(images, out, encoder).num_images == 1
    with pytest.raises(ConfigurationError, match='out exists already.*--overwrite'):
        extract(images, out, encoder)
    assert extract(images, out, encoder, overwrite=True, pooling='cls').num_new == 1


@pytest.mark.parametrize('name, recorded', [
    ('https://host/model.safetensors?download=true', ) * 2,
    ('~/model.pth', os.path.expanduser('~/model.pth'))])
def test_a_checkpoint_is_found_again(encoder, small, tmp_path, name, recorded):
    elsewhere = copy.copy(encoder)
    elsewhere.name = name
    extract(small('a.png'), tmp_path / 'out', elsewhere)
    assert read_settings(tmp_path / 'out')['checkpoint'] == recorded


def test_names_that_are_no_text(encoder, small, tmp_path):
    images = small('a.png')
    os.rename(images / 'a.png', os.fsencode(images) + b'/\xff.png')
    extract(images, tmp_path / 'out', encoder)
    assert read(tmp_path / 'out')[0] == ['\\xff.png']


# Neighbours


@pytest.fixture(scope='module')
def features(encoder, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp('features') / 'out.parquet'
    extract(folder, out, encoder)
    return out


@pytest.mark.parametrize('rows_at_a_time', [1, 5, 100])
def test_neighbours_against_sorting_everything(features, monkeypatch,
                                               rows_at_a_time):
    monkeypatch.setattr(nearest_neighbours, 'ROWS_AT_A_TIME', rows_at_a_time)
    paths, vectors = read(features)
    query = np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
    neighbours = partial(nearest_neighbours.nearest_neighbours, features,
                         torch.from_numpy(query))
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    got = neighbours(7)
    assert [n.path for n in got] == [paths[i] for i in np.argsort(-cosine)[:7]]
    np.testing.assert_allclose([n.similarity for n in got], np.sort(cosine)[::-1][:7],
                               rtol=0, atol=1e-6)
    assert len(neighbours(99)) == NUM_GOOD


def test_search_leaves_out_the_image_itself(features, folder, tmp_path, capsys):
    image = folder / 'deep/er/1.png'
    nearest_neighbours.run(nearest_neighbours.parse_arguments(
        [str(features), str(image), '--out', str(tmp_path / 's.png'), '--count', '6']))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and not any(line.endswith('er/1.png') for line in lines)
    similarities = [float(line.split()[0]) for line in lines[:-1]]
    assert similarities == sorted(similarities, reverse=True)
    with Image.open(tmp_path / 's.png') as sheet:
        # Two rows of tiles, neither of them empty.
        height = sheet.height
        rows = [np.asarray(sheet)[:height // 2], np.asarray(sheet)[height // 2:]]
        assert all((row < 128).mean() > 0.02 for row in rows)
    # A copy elsewhere is the same picture: similarity 1 with the original.
    Image.open(image).save(tmp_path / 'copy.png')
    found, *_ = nearest_neighbours.search(str(features), str(tmp_path / 'copy.png'), 1)
    assert found[0].path == 'deep/er/1.png'
    assert found[0].similarity == pytest.approx(1, abs=1e-5)


def test_a_sheet_of_images_with_other_channels(tmp_path):
    """A bright spot in one channel, as bright as the statistics of the training say."""
    pixels = np.full((8, 8, 4), 5000, 'uint16')
    pixels[2, 3, 1] = 9000
    np.save(tmp_path / 'a.npy', pixels)
    neighbour = nearest_neighbours.Neighbour('a.npy', 1.)
    sheet = nearest_neighbours.contact_sheet(
        str(tmp_path / 'a.npy'), [neighbour], tmp_path, SimpleNamespace(
            channels=4, preprocessing=Preprocessing((8, 8), [5000.] * 4, [1600.] * 4)))
    for axes in sheet.axes[:2]:
        shown = axes.images[0].get_array()
        assert shown.shape == (8, 8, 3)
        expected = np.full((8, 8, 3), .5)
        expected[2, 3, 1] = 1  # 2.5 standard deviations above the mean
        np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_search_refuses(features, folder, tmp_path, encoder, capsys):
    image = str(folder / '0.png')
    changed = torch.load(encoder.name)
    changed['state_dict']['backbone.ln1.bias'] += 1
    torch.save(changed, tmp_path / 'other.pth')
    pyarrow.parquet.write_table(pyarrow.table(dict(a=[1])), tmp_path / 'a.parquet')
    for arguments, message in (
        ((str(features), image, 1, str(tmp_path / 'other.pth')), 'another checkpoint'),
        ((str(features), 'absent.png', 1), 'no image absent.png'),
        ((str(tmp_path / 'absent'), image, 1), 'no file'),
        ((image, image, 1), 'not a finished file'),
        ((str(tmp_path / 'a.parquet'), image, 1), 'not a finished file'),
        ((str(features), image, 0), 'at least 1'),
    ):
        with pytest.raises(ConfigurationError, match=message):
            nearest_neighbours.search(*arguments)
    with pytest.raises(SystemExit):
        nearest_neighbours.parse_arguments(['a', 'b', '--out', 'sheet.txt'])
    assert 'sheet.txt must end in one of .png, .jpg' in capsys.readouterr().err
