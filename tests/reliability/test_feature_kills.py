"""Extract features of many images, kill it in the middle, go on.

``pytest tests/reliability/test_feature_kills.py -m slow --images 20000`` takes minutes.
"""
import os
import signal
import time

import numpy as np
import preloaded
import psutil
import pytest
import torch
from mmengine.registry import MODELS

from mixedae_mm.apis import encoder, features

from .images import write_noise
from .small_runs import MIXEDAE

OUT = 'features.parquet'


@pytest.mark.slow
def test_a_killed_extraction_goes_on(request, tmp_path, tell):
    """Every image once, with its own feature."""
    parquet = pytest.importorskip('pyarrow.parquet')
    count = request.config.getoption('--images')
    write_noise(str(tmp_path / 'images'), count, extension='jpg')
    model = MODELS.build(MIXEDAE)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run.pth')
    status, killed_peak = watch(tmp_path, kill=True)
    assert status == -signal.SIGKILL and not (tmp_path / OUT).exists()
    status, peak = watch(tmp_path)
    assert status == 0
    table = parquet.read_table(tmp_path / OUT)
    paths = table['path'].to_pylist()
    assert sorted(paths) == sorted(f'{number}.jpg' for number in range(count))
    rows = np.random.default_rng(0).choice(count, 64, replace=False)
    found = np.stack([table['feature'][int(row)].as_py() for row in rows])
    expected = encoder.load(str(tmp_path / 'run.pth'), heads=2).features(
        [tmp_path / 'images' / paths[row] for row in rows]).numpy()
    difference = np.abs(found - expected).max()  # (64, C)
    tell(f'extraction killed and resumed; {(tmp_path / "done.txt").read_text()}; peak '
         f'memory {killed_peak:.0f} and {peak:.0f} MiB; largest difference to features '
         f'computed again: {difference:.1e}')
    assert difference < 1e-5


def extract(folder):
    """Extract in a process group of its own, in parts of 64 images."""
    os.setsid()
    features.PART_SIZE = 64
    done = features.write_features(
        str(folder / 'images'), str(folder / OUT),
        encoder.load(str(folder / 'run.pth'), heads=2), num_workers=1, progress=False)
    (folder / 'done.txt').write_text(
        f'{done.num_images} images, {done.num_new} of them in the second run, '
        f'{done.num_new / done.seconds:.0f} images/s')


def watch(folder, kill=False):
    """Extract, and kill it once two parts are written.

    Returns:
        tuple: The exit status, and the peak of its processes' memory in MiB.
    """
    process, peak, looked = preloaded.process(extract, folder), 0, 0
    while process.is_alive():
        if time.monotonic() > looked + 0.5:  # reading it takes long
            peak, looked = max(peak, memory(process.pid)), time.monotonic()
        if kill and len(list(folder.glob(f'{OUT}.parts/part-*'))) >= 2:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.01)
    process.join()
    return process.exitcode, peak


def memory(pid):
    """MiB of a process and its children now; shared memory counts once."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            total += process.memory_full_info().pss / 2**20
    except psutil.Error:  # one of them has just ended
        pass
    return total
