"""Extract features of many images, kill it in the middle, go on.

``pytest tests/reliability/test_feature_kills.py -m slow --images 20000`` takes minutes.
"""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from mmengine.registry import MODELS

from mixedae_mm.apis.encoder import load

from .images import write_noise
from .small_runs import MIXEDAE

FEATURES = 'features.parquet'
EXTRACT = f'''
from mixedae_mm.apis import encoder, features
features.PART_SIZE = 64
done = features.extract_features('images', '{FEATURES}', encoder.load('run.pth'))
print(f'{{done.num_images}} images, {{done.num_new}} of them in this run, '
      f'{{done.num_new / done.seconds:.0f}} images/s')
'''


def extract(folder, kill=False):
    """Run the command, and kill it once it has written two parts.

    Returns:
        tuple: What it printed, and the peak of its processes' memory in MiB.
    """
    peak = 0
    with open(folder / 'printed.txt', 'w+') as printed:
        process = subprocess.Popen(
            [sys.executable, '-c', EXTRACT], cwd=folder, stdout=printed, stderr=printed,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            start_new_session=True)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            if kill and len(list(folder.glob(f'{FEATURES}.parts/part-*'))) >= 2:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        printed.seek(0)
        said = printed.read()
    assert process.returncode == (-signal.SIGKILL if kill else 0), said
    return said, peak


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


@pytest.mark.slow
def test_a_killed_extraction_goes_on(request, tmp_path, tell):
    """Every image once, with its own feature."""
    parquet = pytest.importorskip('pyarrow.parquet')
    count = request.config.getoption('--images')
    write_noise(str(tmp_path / 'images'), count, extension='jpg')
    model = MODELS.build(MIXEDAE)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run.pth')
    _, peak = extract(tmp_path, kill=True)
    said, again = extract(tmp_path)
    table = parquet.read_table(tmp_path / FEATURES)
    paths = table['path'].to_pylist()
    assert sorted(paths) == sorted(f'{number}.jpg' for number in range(count))
    rows = np.random.default_rng(0).choice(count, 64, replace=False)
    features = np.stack([table['feature'][int(row)].as_py() for row in rows])
    expected = load(str(tmp_path / 'run.pth')).features(
        [tmp_path / 'images' / paths[row] for row in rows]).numpy()
    difference = np.abs(features - expected).max()
    tell(f'extraction killed and resumed; {said.strip().splitlines()[-1]}; peak memory '
         f'{peak:.0f} and {again:.0f} MiB; largest difference to features computed '
         f'again: {difference:.1e}')
    assert difference < 1e-5
