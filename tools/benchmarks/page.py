"""docs/speed.md, made from what tools/benchmarks measured."""
import json
from pathlib import Path
from typing import Dict, List

from mixedae_mm.utils.errors import ConfigurationError
from .cost import PAPER_V100_GPU_DAYS

INTRODUCTION = """\
# Speed

<!-- Written by `python tools/benchmarks page`: change that, not this. -->

Every figure is a ratio to the peer, measured by turns in the same run, so that
a slow or busy machine slows both. Ratios are medians over the rounds, with the
smallest and the largest. Repeat any of them with the command above its table;
add `--save` and run `python tools/benchmarks page` to make this page from
yours.
"""

# What each command measures, and how to read its columns.
SECTIONS = dict(
    attention=(
        'Homologous attention',
        'Forward and backward at ViT-B\'s shape, K = 49 of 197 keys. *Extra '
        'memory* is the peak above the inputs. The kernels: '
        '[`cpu_kernel.c`](../mixedae_mm/ops/cpu_kernel.c), '
        '[`triton_forward.py`](../mixedae_mm/ops/triton/forward.py), '
        '[`triton_backward.py`](../mixedae_mm/ops/triton/backward.py).'),
    step=(
        'A training step',
        'ViT-B/16 from uint8 images to updated weights: preprocessing, '
        'forward, backward, optimizer. Both see the same number of clean '
        'images. *Device-days* is what the config\'s schedule on ImageNet '
        'would take on one such device at this speed; nobody ran it.'),
    memory=('Memory of that step', 'Each in a process of its own.'),
    backbone=(
        'Memory of the backbone in transfer',
        'Forward and backward of ViT-B/16 at 800 × 1333, features of four '
        'layers, each in a process of its own. *Checkpointed* is '
        '`with_cp=True`.'),
    data=('Loading images',
          'One core, from a JPEG file to a packed 224 × 224 crop.'),
    listing=(
        'Starting on a large folder',
        'Until the data set knows its images. *Again* is what every further '
        'process, worker and resume takes.'))

COLUMNS = dict(
    name='', images='images', median_s='median [s]', ratio='ratio',
    spread='min – max', speedup='speed-up', images_per_s='images/s',
    device_days='device-days', peak_mib='peak [MiB]', extra_mib='extra memory [MiB]',
    extra_ratio='its ratio', first_s='first [s]', again_s='again [s]',
    ratio_again='its ratio')


def write(measurements: Path, page: Path) -> Path:
    """Write the page from all ``*.json`` files of a folder.

    Raises:
        ConfigurationError: If there is no measurement.
    """
    results = [json.loads(file.read_text())
               for file in sorted(measurements.glob('*.json'))]
    if not results:
        raise ConfigurationError(
            f'{measurements} holds no measurement: run tools/benchmarks with '
            '--save first.')
    page.write_text(as_page(results))
    return page


def as_page(results: List[dict]) -> str:
    """Markdown of all results; what was not measured is said to be so.

    Args:
        results (list[dict]): What ``tools/benchmarks`` saves, each perhaps
            with a ``note`` for its reader.
    """
    parts = [INTRODUCTION]
    for what, (title, text) in SECTIONS.items():
        parts.append(f'## {title}\n\n{text}\n')
        for device, label in (('cpu', 'CPU'), ('cuda', 'GPU')):
            found = [result for result in results if result['what'] == what
                     and result['machine']['device'] == device]
            parts += map(_section, found)
            if not found and (device == 'cpu' or what not in ('data', 'listing')):
                parts.append(f'On a {label}: **not measured**. The command there is '
                             f'`python tools/benchmarks {what} --save`.\n')
    return '\n'.join(parts)


def _section(result: dict) -> str:
    facts = dict(result['machine'])
    facts.update(threads=f'{facts["threads"]} threads',
                 python=f'Python {facts["python"]}',
                 torch=f'PyTorch {facts["torch"]}')
    facts.pop('device')
    lines = [f'```bash\n{result["command"]}\n```\n',
             f'Batch {result["batch_size"]} on {", ".join(facts.values())}.\n'
             if result['what'] not in ('data', 'listing') else
             f'On {", ".join(facts.values())}.\n',
             _table([_readable(row) for row in result['rows']])]
    if 'note' in result:
        lines.append(f'\n{result["note"]}')
    paper = PAPER_V100_GPU_DAYS.get(result['config'])
    if result['what'] == 'step' and paper:
        lines.append(f'\nThe paper reports {paper} GPU-days on V100 for '
                     f'`{result["config"]}`.')
    return '\n'.join(lines) + '\n'


def _readable(row: dict) -> Dict[str, str]:
    row = dict(row)
    if 'ratio_min' in row:
        row['spread'] = f'{row.pop("ratio_min"):.2f} – {row.pop("ratio_max"):.2f}'
    return {key: _format(key, row[key]) for key in COLUMNS if key in row}


def _format(key: str, value) -> str:
    if not isinstance(value, float):
        return str(value)
    if 'ratio' in key or key == 'speedup':
        return f'{value:.2f}'
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _table(rows: List[Dict[str, str]]) -> str:
    header = list(rows[0])
    lines = [[COLUMNS[key] for key in header],
             ['---'] + ['---:'] * (len(header) - 1),
             *([row[key] for key in header] for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
