"""Tables of texts, without a line break at the end."""
from typing import List, Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]],
                   numbers: bool = False) -> str:
    """A table in Markdown; with ``numbers`` all columns but the first to the right."""
    rule = ['---'] + ['---:' if numbers else '---'] * (len(header) - 1)
    escaped = [[cell.replace('|', '\\|') for cell in line] for line in [header, *rows]]
    lines: List[Sequence[str]] = [escaped[0], rule, *escaped[1:]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the first column to the left, others to the right."""
    lines = [header, *rows]
    first, *widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join(
        '  '.join([line[0].ljust(first),
                   *(cell.rjust(width) for cell, width in zip(line[1:], widths))])
        for line in lines)
