"""Tables of texts: in Markdown, and aligned for a terminal."""
from typing import List, Sequence


def markdown_table(header: Sequence[str],
                   rows: Sequence[Sequence[str]],
                   numbers: bool = False) -> str:
    """Format a table in Markdown.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Sequence[Sequence[str]]): Cells, as many per row as in the header.
        numbers (bool): Align all columns but the first to the right.

    Returns:
        str: Lines without a line break at the end.
    """
    rule = ['---'] + ['---:' if numbers else '---'] * (len(header) - 1)
    escaped = [[cell.replace('|', '\\|') for cell in line] for line in [header, *rows]]
    lines: List[Sequence[str]] = [escaped[0], rule, *escaped[1:]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table for a terminal: first column to the left, others to the right.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Sequence[Sequence[str]]): Cells, as many per row as in the header.

    Returns:
        str: Lines without a line break at the end.
    """
    lines = [header, *rows]
    first, *widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join(
        '  '.join([line[0].ljust(first),
                   *(cell.rjust(width) for cell, width in zip(line[1:], widths))])
        for line in lines)
