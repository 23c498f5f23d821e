"""The commands as a person types them."""
import sys

import preloaded
import pytest
import torch
from foreign_checkpoints import classifier_model, mixedae_model, mm_checkpoint
from PIL import Image
from skimage.data import astronaut


def tool(name, *arguments, cwd):
    return preloaded.run(
        [sys.executable, '-m', 'mixedae_mm', name, *arguments], cwd=cwd)


@pytest.mark.slow
def test_from_a_checkpoint_to_a_contact_sheet(tmp_path):
    mm_checkpoint(tmp_path / 'epoch_1.pth', mixedae_model())
    (tmp_path / 'images').mkdir()
    for i in range(6):
        Image.fromarray(astronaut()[40 * i:40 * i + 200, 200:]).save(
            tmp_path / f'images/{i}.jpg')

    done = tool('convert', 'epoch_1.pth', 'model', '--to', 'hf', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'mapped    30 encoder tensors' in done.stdout
    assert 'largest difference to the source on an image: features' in done.stdout
    done = tool('extract_features', 'images', 'f.parquet', '--checkpoint', 'model',
                cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'f.parquet: 6 images' in done.stdout
    Image.open(tmp_path / 'images/2.jpg').save(tmp_path / 'copy.png')
    done = tool('nearest_neighbours', 'f.parquet', 'copy.png', '--count', 2,
                cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '1.0000  2.jpg' in done.stdout.splitlines()
    assert (tmp_path / 'neighbours.png').exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'),
                    reason='exporting needs PyTorch 2.5')
def test_export_of_a_classifier(tmp_path):
    mm_checkpoint(tmp_path / 'best.pth', classifier_model('mean'))
    done = tool('export', 'best.pth', 'best.onnx', '--classifier', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'difference between onnxruntime and the model' in done.stdout
    assert (tmp_path / 'best.onnx').exists()
