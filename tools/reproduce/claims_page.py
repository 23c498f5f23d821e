"""The page of documentation about the claims."""
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mixedae_mm.engine.resume.checkpoint_files import write_text
from mixedae_mm.utils.errors import ConfigurationError
from .results import METRICS, text_of
from .verdicts import rows

BEGIN, END = '<!-- measured: begin -->', '<!-- measured: end -->'


def write_page(file: Path, summary: Dict[str, Any]) -> None:
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
    write_text(str(file), before + BEGIN + '\n\n' +
               '\n'.join(_markdown(summary)) + f'\n\n{END}' + (after or '\n'))


def _markdown(summary: Dict[str, Any]) -> List[str]:
    encoder, machine = summary['encoder'], summary['machine']
    lines = [
        f'Preset `{summary["preset"]}`: {summary["steps"]} steps of '
        f'{summary["batch_size"]} images, encoder of {encoder["num_layers"]} '
        f'layers and width {encoder["embed_dims"]}, 64 × 64 pixels in patches '
        f'of 8, on {machine.get("gpu", machine["processor"])}. Mean ± standard '
        'deviation over seeds where there are several; *noise* is two standard '
        'errors of the difference (over seeds, pooled over all trainings, and '
        'of the test images).', ''
    ]
    if summary['missing']:
        lines += [f'Not run, so missing below: {", ".join(summary["missing"])}.', '']
    lines += _markdown_table(
        ['paper', 'claim', 'verdict', 'numbers'],
        [[row.where, row.text, f'**{row.verdict}**', '<br>'.join(row.numbers) or '–']
         for row in rows(summary)])
    names = [name for name in METRICS if any(
        name in entry['metrics'] for entry in summary['variants'].values())]
    for part in ([n for n in names if n.startswith(('loss_', 'topk_'))],
                 [n for n in names if METRICS[n].is_transfer],
                 [n for n in names if n.startswith('object_')]):
        lines += ['', *_markdown_table(
            ['pre-training', 'seeds', *(METRICS[n].title for n in part)],
            [[entry['title'], str(len(entry['seeds'])),
              *(text_of(n, entry['metrics'].get(n)) for n in part)]
             for entry in summary['variants'].values()])]
    lines += [
        '', 'TopK accuracy by layer [%], the first layer first, chance 25 '
        '(50 for r = 0.5):', '',
        *_markdown_table(
            ['pre-training', *map(str, range(1, encoder['num_layers'] + 1))],
            [[entry['title'], *(f'{value:.1f}' for value in entry['topk'])]
             for entry in summary['variants'].values()]), '',
        'Chance: ' + '; '.join(
            f'{name} {value:.1f} %' for name, value in summary['chance'].items())
        + f'. Objects cover {summary["object_share"]:.1f} % of an image, which '
        'is the average precision of chance; a map that only knows the centre '
        f'of the image has {summary["centre"]["object_ap"]:.1f} % average '
        f'precision and {summary["centre"]["object_iou"]:.1f} % IoU.',
    ]
    return lines


def _markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]
                    ) -> List[str]:
    lines = [header, ['---'] * len(header), *body]
    return ['| ' + ' | '.join(line) + ' |' for line in lines]
