"""The progress bar of all tools."""
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, TypeVar

from rich.console import Console
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeRemainingColumn)

Item = TypeVar('Item')


@contextmanager
def progress_bar(what: str, total: int, done: int = 0,
                 show: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, or one line at the end elsewhere; on stderr.

    ``done`` of the ``total`` steps were finished before. Call what it yields with the
    number of steps just finished.
    """
    with Progress(TextColumn('{task.description}'), BarColumn(),
                  MofNCompleteColumn(), TimeRemainingColumn(),
                  console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.advance(task, count)


def with_progress(items: Iterable[Item], what: str, total: int,
                  show: bool = True) -> Iterator[Item]:
    """Yield the items while a :func:`progress_bar` counts them."""
    with progress_bar(what, total, show=show) as advance:
        for item in items:
            yield item
            advance(1)
