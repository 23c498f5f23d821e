#!/usr/bin/env python
"""Convert ViTs of full size in every direction and print the differences."""
import argparse
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

# A checkout runs without being installed, from any directory.
sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1:3]]

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from converters.layouts import hf_sizes, hf_vit, layout_rows, shaken, timm_vit
from mixedae_mm.interop.convert import Conversion, convert
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.models.vit_sizes import SIZES
from mixedae_mm.utils.config_names import config_path
from mixedae_mm.utils.optional import require
from mixedae_mm.utils.tables import markdown_table

# The sizes to choose from, and what pre-trains them.
CONFIGS = dict(base='mixedae_vitb_300e', large='mixedae_vitl_300e',
               huge='mixedae_vith_300e_fsdp')


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
    model, _ = timm_vit(sizes_of(size))
    torch.save(shaken(model).state_dict(), folder / 'timm.pth')
    return folder / 'timm.pth'


def make_hf(folder: Path, size: str) -> Path:
    model, _ = hf_vit(sizes_of(size), layer_norm_eps=1e-12)  # its own
    shaken(model).save_pretrained(folder / 'hf')
    return folder / 'hf'


def make_hf_mae(folder: Path, size: str) -> Path:
    transformers = require('transformers', 'transformers', 'The table')
    model = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**hf_sizes(sizes_of(size))))
    shaken(model).save_pretrained(folder / 'hf-mae')
    return folder / 'hf-mae'


def make_mae(folder: Path, size: str) -> Path:
    """Meta's has no library to be made with: ours, by its names."""
    convert(str(make_mixedae(folder, size)), str(folder / 'mae.pth'), 'mae')
    return folder / 'mae.pth'


def sizes_of(size: str) -> dict:
    width, depth, heads, *_ = SIZES[f'vit-{size[0]}']
    return dict(img_size=224, patch_size=14 if size == 'huge' else 16,
                embed_dim=width, depth=depth, num_heads=heads)


MAKERS: Dict[str, Callable[[Path, str], Path]] = {
    'MixedAE': make_mixedae, 'timm': make_timm, 'HF ViTModel': make_hf,
    'HF ViTMAE': make_hf_mae, "Meta's MAE": make_mae}
TARGETS = {'timm': 'timm', 'hf': 'HF ViTModel', 'hf-mae': 'HF ViTMAE',
           'mae': "Meta's MAE", 'mm': 'mmpretrain'}
DIRECTIONS: List[Tuple[str, str]] = [
    *(('MixedAE', to) for to in TARGETS),
    *((source, 'mm') for source in MAKERS if source != 'MixedAE')]


def conversions(size: str) -> Iterator[Tuple[str, str, Conversion]]:
    """Source, target and what :func:`~.convert.convert` says of each direction."""
    for source, to in DIRECTIONS:
        with tempfile.TemporaryDirectory(prefix='conversion-') as name:
            folder = Path(name)
            checkpoint = MAKERS[source](folder, size)
            yield source, TARGETS[to], convert(str(checkpoint), str(folder / 'out'), to)


def run(args: argparse.Namespace) -> None:
    """Print the table as Markdown."""
    if args.layouts:
        with tempfile.TemporaryDirectory(prefix='layouts-') as folder:
            header, *found = layout_rows(sizes_of(args.size), Path(folder))
        print(markdown_table(header, found))
        return
    print('| from | to | tensors mapped | left out | '
          'largest difference on a photograph |')
    print('|---|---|---|---|---|')
    for source, target, done in conversions(args.size):
        differences = ', '.join(map(str, done.comparisons)) or done.not_compared
        print(f'| {source} | {target} | {done.num_written} | '
              f'{len(done.vit.left_out)} | {differences} |', flush=True)


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/converters/conversion_table.py``."""
    parser = argparse.ArgumentParser(
        description='Convert ViTs with random weights in every direction; print the '
        'tensors that were mapped and the largest differences of features.')
    parser.add_argument('--size', choices=list(CONFIGS), default='base',
                        help='ViT-B/16 (default), ViT-L/16 or ViT-H/14')
    parser.add_argument('--layouts', action='store_true', help='load files in the '
                        'layouts of published ones instead, by init_cfg and '
                        'mixedae_mm.load')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
