"""Write a converted checkpoint completely, or nothing."""
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Dict

import torch
from torch import Tensor

from ..models.checkpoint_loading import short_names
from ..models.checkpoint_reading import PATCH_GRID
from ..utils.errors import ConfigurationError
from ..utils.files import check_file, check_place
from ..utils.optional import require
from ..utils.preprocessing import channels_to_read
from .configurations import hf_config, mm_meta
from .formats import Format, rename
from .vit import Vit

FILE_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')
# What a conversion writes into a folder.
FOLDER_FILES = ('model.safetensors', 'model.pth', 'README.md', 'config.json',
                'preprocessor_config.json')


def check_destination(path: str, target: Format, overwrite: bool) -> Path:
    """Refuse, before any work, a place that a checkpoint cannot be written to."""
    destination = Path(path).expanduser()
    if destination.suffix.lower() in FILE_SUFFIXES:
        if target.is_folder:
            raise ConfigurationError(
                f'--to {target.title} writes a folder, but {path} is the name of a '
                'file; leave out the ending.')
        return check_file(path, overwrite)
    if destination.is_dir() and any(
            file.name not in FOLDER_FILES for file in destination.iterdir()):
        raise ConfigurationError(
            f'{path} is a folder with other things in it, which --overwrite '
            'does not delete.')
    return check_place(destination, overwrite)


def write_vit(vit: Vit, destination: Path, target: Format,
              source: str) -> Dict[str, Tensor]:
    """Write weights, with their patch grid, and configuration.

    Args:
        vit (Vit): What to write.
        destination (Path): A file, of the kind that its ending says, or a folder to
            be made.
        target (Format): How.
        source (str): Name of the checkpoint it comes from.

    Returns:
        dict[str, Tensor]: The tensors by the names they were written with.
    """
    tensors, grid, file = rename(vit, target), vit.description.grid, destination
    if destination.suffix.lower() not in FILE_SUFFIXES:
        file = destination / target.file
        destination.mkdir()
        for name, content in target.configs(vit).items():
            (destination / name).write_text(
                json.dumps(content, indent=2, ensure_ascii=False) + '\n')
    if file.suffix.lower() == '.safetensors':
        library = require('safetensors.torch', 'safetensors', f'Writing {file.name}')
        library.save_file(
            tensors, file,
            metadata={'format': 'pt', 'converted_from': source,
                      PATCH_GRID: '{}x{}'.format(*grid)})
        os.umask(mask := os.umask(0))
        file.chmod(0o666 & ~mask)  # safetensors lets only the owner read
        return tensors
    # Where PyTorch notes the versions of modules, and other libraries look for nothing.
    noted = OrderedDict(tensors)
    noted._metadata = {'': dict(grid=grid)}  # type: ignore[attr-defined]
    if target.title == 'mm':
        torch.save(dict(meta=mm_meta(vit, source), state_dict=noted), file)
    elif target.title == 'mae':
        torch.save(dict(model=noted), file)
    else:
        torch.save(noted, file)
    return tensors


def model_card(vit: Vit, target: Format, name: str, source: str,
               check: str) -> str:
    """Text of the ``README.md`` of a folder; ``check`` says how features compare."""
    sizes = vit.description
    height, width = sizes.img_size
    kind = hf_config(sizes)['architectures'][0]
    snippet = target.snippet.format(
        path=name,
        model=kind,
        extra=', add_pooling_layer=False' if kind == 'ViTModel' else '')
    task = 'image-classification' if sizes.num_classes else 'image-feature-extraction'
    left_out = ', '.join(f'`{n}`' for n in short_names(vit.left_out)) or 'nothing'
    mean, std = ([round(value, 3) for value in values]
                 for values in (sizes.mean, sizes.std))
    images = ('Images are RGB, 0 to 255.'
              if channels_to_read(sizes.in_channels, sizes.mean) is None else
              f'Images have {sizes.in_channels} channels.')
    notes = ''.join(f'\nAssumed: {note}.' for note in vit.notes)
    return f'''---
library_name: {target.library}
pipeline_tag: {task}
tags:
- vision-transformer
- self-supervised-learning
- mixedae
---

# {name}

{sizes}; {sum(v.numel() for v in vit.weights.values()) / 1e6:.1f} million weights.
Converted from `{source}` by mixedae_mm for {target.library}.

MixedAE (Chen et al., *Mixed Autoencoder for Self-supervised Visual
Representation Learning*, CVPR 2023) pre-trains a plain ViT by mixing images.

## Use

```python
{snippet}
```

{images} The shorter side is resized (bicubic, antialiased) so that a
centre crop of {height} x {width} takes 224/256 of it. Values are
then normalised by the mean {mean} and the standard deviation
{std}.

## Conversion

{check}
Left out: {left_out}.{notes}

## To be filled in before publishing

Training data, schedule, results, intended use and licence: the checkpoint does
not tell them.
'''
