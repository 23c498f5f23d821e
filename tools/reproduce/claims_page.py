"""The page of documentation about the claims."""
from pathlib import Path
from typing import Any, Dict

from mixedae_mm.analysis.page import render
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_atomically
from mixedae_mm.utils.tables import markdown_table
from .results import CENTRE, METRICS, centre_row, present, text_of
from .verdicts import rows

TEMPLATE = Path(__file__).with_name('templates') / 'claims.md.jinja'
BEGIN, END = '<!-- measured: begin -->', '<!-- measured: end -->'


def write_claims_page(file: Path, summary: Dict[str, Any]) -> None:
    """Put what was measured between the marks of a page of documentation.

    What stands outside the marks stays. A file that is not there yet is made
    of the measurements alone.

    Raises:
        ConfigurationError: If the file has no marks.
    """
    before = after = ''
    if file.is_file():
        text = file.read_text()
        if BEGIN not in text or END not in text:
            raise ConfigurationError(
                f'{file} has no lines "{BEGIN}" and "{END}" to write between.')
        before, after = text.split(BEGIN)[0], text.split(END)[1]
    measured = f'{BEGIN}\n\n{_markdown(summary)}\n{END}'
    write_atomically(file, before + measured + (after or '\n'))


def _markdown(summary: Dict[str, Any]) -> str:
    variants = summary['variants'].values()
    kinds = (lambda name: name.startswith(('loss_', 'topk_')),
             lambda name: METRICS[name].is_transfer,
             lambda name: name.startswith('object_'))
    return render(
        TEMPLATE, summary=summary,
        claims=markdown_table(
            ['paper', 'claim', 'verdict', 'numbers'],
            [[row.where, row.text, f'**{row.verdict}**',
              '<br>'.join(row.numbers) or '–'] for row in rows(summary)]),
        metrics=[markdown_table(
            ['pre-training', 'seeds', *(METRICS[name].title for name in names)],
            [[entry['title'], str(len(entry['seeds'])),
              *(text_of(name, entry['metrics'].get(name)) for name in names)]
             for entry in variants] + (
                [[CENTRE, '–', *centre_row(summary, names)]]
                if names[0] in summary['centre'] else []))
            for names in (present(summary, kind) for kind in kinds)],
        layers=markdown_table(
            ['pre-training', *map(str, range(1, summary['encoder']['num_layers'] + 1))],
            [[entry['title'], *(f'{value:.1f}' for value in entry['topk'])]
             for entry in variants]))
