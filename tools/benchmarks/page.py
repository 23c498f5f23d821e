"""Write docs/speed.md from what tools/benchmarks measured."""
import json
import math
from pathlib import Path
from typing import List

from mixedae_mm.analysis.page import render
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.tables import markdown_table
from .cost import PAPER_V100_GPU_DAYS

TEMPLATE = Path(__file__).with_name('templates') / 'speed.md.jinja'
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
    """Return the Markdown of what ``tools/benchmarks`` saves, and what is missing."""
    # How many cores feed a GPU: the rate of its fastest step of ours over a core's.
    rates = [row['images_per_s'] for result in results for row in result['rows']
             if result['what'] == 'step' and result['machine']['device'] == 'cuda'
             and row['name'].startswith(result['config'])]
    if rates:
        results = [dict(result, rows=[
            dict(row, cores=math.ceil(max(rates) / row['images_per_s']))
            for row in result['rows']]) if result['what'] == 'data' else result
            for result in results]
    return render(TEMPLATE, results=results, table=_table, machine=_machine,
                  paper=PAPER_V100_GPU_DAYS).rstrip() + '\n'


def _machine(result: dict) -> str:
    facts = result['machine']
    words = dict(threads='{} threads', python='Python {}', torch='PyTorch {}')
    return ', '.join(words.get(name, '{}').format(fact)
                     for name, fact in facts.items() if name != 'device')


def _table(measured: List[dict]) -> str:
    rows = [dict(row, spread=f'{row["ratio_min"]:.2f} – {row["ratio_max"]:.2f}')
            if 'ratio_min' in row else row for row in measured]
    return markdown_table(
        [title for key, title in COLUMNS.items() if key in rows[0]],
        [[_format(key, row[key]) for key in COLUMNS if key in row] for row in rows],
        numbers=True)


def _format(key: str, value) -> str:
    if not isinstance(value, float):
        return str(value)
    if 'ratio' in key or key in ('speedup', 'kernel_share', 'of_products'):
        return f'{value:.2f}'
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'
