"""Write docs/speed.md from what tools/benchmarks measured."""
import json
import math
from pathlib import Path
from typing import Dict, List

from mixedae_mm.analysis.page import render
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.tables import markdown_table
from .cost import PAPER_V100_GPU_DAYS

TEMPLATE = Path(__file__).with_name('templates') / 'speed.md.jinja'
ON_THE_CPU = ('data', 'listing')  # whatever the device

# What each command measures, and how to read its columns.
SECTIONS = dict(
    attention=(
        'Homologous attention',
        'Forward and backward at ViT-B\'s shape, K = 49 of 197 keys. *Extra '
        'memory* is the peak above the inputs. The kernels: '
        '[`cpu_kernel.c`](../mixedae_mm/ops/cpu_kernel.c), '
        '[`triton/forward.py`](../mixedae_mm/ops/triton/forward.py), '
        '[`triton/backward.py`](../mixedae_mm/ops/triton/backward.py).'),
    step=(
        'A training step',
        'ViT-B/16 from uint8 images to updated weights: preprocessing, '
        'forward, backward, optimizer. All see the same number of clean '
        'images, pinned, and copied while the step before runs. The row with the '
        'bare name of the config is MixedAE as the train command runs it: on a '
        'recent GPU in bfloat16 without loss scaling, and compiled. The compiled '
        'MAEs have its optimizer, parameter groups and precision; the MAE as shipped '
        'has float16 and a parameter group per parameter. *Kernels* is the sum of '
        'kernel times of a step, *share* that sum over the step, *launches* what the '
        'host starts, *operators* what an eager step dispatches, *of products* the '
        'model\'s FLOP/s over those of large matrix products in the same run. '
        '*Device-days* is the time that the config\'s schedule on ImageNet would take '
        'on one such device at this speed; it was not run.'),
    memory=('Memory of that step', 'Each is measured in its own process.'),
    backbone=(
        'Memory of the backbone in transfer',
        'Forward and backward of ViT-B/16 at 800 × 1333 with features of four '
        'layers, each measured in its own process. *Checkpointed* is '
        '`with_cp=True`.'),
    data=('Loading images',
          'On one core, from a JPEG file to a packed 224 × 224 crop. *Cores per GPU* '
          'is computed: the images/s of the fastest step of ours on a GPU, above, '
          'divided by those of a core here. A loader that has fewer cores is what the '
          'training waits for; smaller files need fewer.'),
    listing=(
        'Starting on a large folder',
        'The time until the data set knows its images. In a distributed run the '
        'first process lists them for all.'))

COLUMNS = dict(
    name='', images='images', median_s='median [s]', ratio='ratio',
    spread='min – max', speedup='speed-up', kernels_s='kernels [s]',
    kernel_share='share', launches='launches', groups='groups',
    operators='operators', of_products='of products', steps_per_s='steps/s',
    images_per_s='images/s', cores='cores per GPU',
    device_days='device-days', peak_mib='peak [MiB]',
    extra_mib='extra memory [MiB]', extra_ratio='its ratio')


def write_speed_page(measurements: Path, page: Path) -> Path:
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
    """Return the Markdown of all results; it also says what was not measured.

    Args:
        results (list[dict]): What ``tools/benchmarks`` saves; each may have a
            ``note`` for its reader.
    """
    results = [_with_cores(result, results) if result['what'] == 'data' else result
               for result in results]
    return render(TEMPLATE, results=results, sections=SECTIONS, table=_table,
                  machine=_machine, paper=PAPER_V100_GPU_DAYS,
                  on_the_cpu=ON_THE_CPU).rstrip() + '\n'


def _with_cores(data: dict, results: List[dict]) -> dict:
    """Measured loaders, with how many cores each needs to feed a GPU."""
    rates = [row['images_per_s'] for result in results for row in result['rows']
             if result['what'] == 'step' and result['machine']['device'] == 'cuda'
             and row['name'].startswith(result['config'])]
    if not rates:
        return data
    return dict(data, rows=[dict(row, cores=math.ceil(max(rates) / row['images_per_s']))
                            for row in data['rows']])


def _machine(result: dict) -> str:
    facts = dict(result['machine'])
    facts.update(threads=f'{facts["threads"]} threads',
                 python=f'Python {facts["python"]}',
                 torch=f'PyTorch {facts["torch"]}')
    facts.pop('device')
    return ', '.join(facts.values())


def _readable(row: dict) -> Dict[str, str]:
    row = dict(row)
    if 'ratio_min' in row:
        row['spread'] = f'{row.pop("ratio_min"):.2f} – {row.pop("ratio_max"):.2f}'
    return {key: _format(key, row[key]) for key in COLUMNS if key in row}


def _format(key: str, value) -> str:
    if not isinstance(value, float):
        return str(value)
    if 'ratio' in key or key in ('speedup', 'kernel_share', 'of_products'):
        return f'{value:.2f}'
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _table(measured: List[dict]) -> str:
    rows = [_readable(row) for row in measured]
    return markdown_table([COLUMNS[key] for key in rows[0]],
                          [list(row.values()) for row in rows], numbers=True)
