#!/usr/bin/env python
"""Convert ViTs of full size in every direction and print the differences."""
import argparse
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

# A checkout runs without being installed, from any directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mixedae_mm.interop.convert import Conversion, convert
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.config_names import config_path
from mixedae_mm.utils.optional import require

# Width, layers, heads as the libraries' own models have them.
SIZES = dict(base=(768, 12, 12), large=(1024, 24, 16))
CONFIGS = dict(base='mixedae_vitb_300e', large='mixedae_vitl_300e')


def shaken(model: nn.Module) -> nn.Module:
    """Every parameter moved, also biases, norms and positions that begin equal."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def make_mixedae(folder: Path, size: str) -> Path:
    """A checkpoint of pre-training, as mmengine saves it."""
    config = Config.fromfile(config_path(CONFIGS[size]))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = shaken(MODELS.build(config.model))
    file = folder / 'mixedae.pth'
    torch.save(dict(meta=dict(cfg=Config(dict(model=config.model)).pretty_text),
                    state_dict=model.state_dict()), file)
    return file


def make_timm(folder: Path, size: str) -> Path:
    timm = require('timm', 'timm', 'The table')
    model = shaken(timm.create_model(f'vit_{size}_patch16_224', num_classes=0))
    torch.save(model.state_dict(), folder / 'timm.pth')
    return folder / 'timm.pth'


def make_hf(folder: Path, size: str) -> Path:
    transformers = require('transformers', 'transformers', 'The table')
    model = transformers.ViTModel(
        transformers.ViTConfig(**_hf_sizes(size)), add_pooling_layer=False)
    shaken(model).save_pretrained(folder / 'hf')
    return folder / 'hf'


def make_hf_mae(folder: Path, size: str) -> Path:
    transformers = require('transformers', 'transformers', 'The table')
    model = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**_hf_sizes(size)))
    shaken(model).save_pretrained(folder / 'hf-mae')
    return folder / 'hf-mae'


def make_mae(folder: Path, size: str) -> Path:
    """Meta's has no library to be made with: ours, by its names."""
    convert(str(make_mixedae(folder, size)), str(folder / 'mae.pth'), 'mae')
    return folder / 'mae.pth'


def _hf_sizes(size: str) -> dict:
    width, depth, heads = SIZES[size]
    return dict(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
                intermediate_size=4 * width)


MAKERS: Dict[str, Callable[[Path, str], Path]] = {
    'MixedAE': make_mixedae, 'timm': make_timm, 'HF ViTModel': make_hf,
    'HF ViTMAE': make_hf_mae, "Meta's MAE": make_mae}
TARGETS = {'timm': 'timm', 'hf': 'HF ViTModel', 'hf-mae': 'HF ViTMAE',
           'mae': "Meta's MAE", 'mm': 'mmpretrain'}
DIRECTIONS: List[Tuple[str, str]] = [
    *(('MixedAE', to) for to in TARGETS),
    *((source, 'mm') for source in MAKERS if source != 'MixedAE')]


def table(size: str) -> Iterator[Tuple[str, str, Conversion]]:
    """Source, target and what :func:`~.convert.convert` says of each direction."""
    for source, to in DIRECTIONS:
        with tempfile.TemporaryDirectory(prefix='conversion-') as name:
            folder = Path(name)
            checkpoint = MAKERS[source](folder, size)
            yield source, TARGETS[to], convert(str(checkpoint), str(folder / 'out'), to)


def run(args: argparse.Namespace) -> None:
    """Print the table as Markdown."""
    print('| from | to | tensors mapped | left out | '
          'largest difference on a photograph |')
    print('|---|---|---|---|---|')
    for source, target, done in table(args.size):
        differences = ', '.join(map(str, done.comparisons)) or done.not_compared
        print(f'| {source} | {target} | {done.num_written} | '
              f'{len(done.vit.left_out)} | {differences} |', flush=True)


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/converters/conversion_table.py``."""
    parser = argparse.ArgumentParser(
        description='Convert ViTs with random weights in every direction; print the '
        'tensors that were mapped and the largest differences of features.')
    parser.add_argument('--size', choices=list(SIZES), default='base',
                        help='ViT-B/16 (default) or ViT-L/16')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
