"""A progress bar where a person watches, and nothing where none does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
"""Takes how much is done so far."""


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """A bar on standard error up to ``total``; without it, or a terminal, or rich, nothing is shown."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        yield _nothing
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _nothing(done: int) -> None:
    """Show nothing."""
