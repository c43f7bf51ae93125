"""The progress of a build, for a person who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from embedq_worker.cli.standing import duration
from embedq_worker.errors import StoreError
from embedq_worker.store.indexes.progress import Progress, progress
from embedq_worker.store.postgres.connections import connect

_LOOK_EVERY = 0.5
"""Seconds between looks at the progress."""


@contextmanager
def follow_build(database_url: str, pid: int) -> Iterator[None]:
    """Show the build's progress from a thread: the build itself stays on the main one, where Ctrl-C cancels
    it."""
    over = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        thread = threading.Thread(target=_follow, args=(bar, database_url, pid, over), name="index progress")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def in_words(seen: Progress) -> str:
    """The phase, and how long it will last, as far as that can be told."""
    left = seen.seconds_left
    return seen.phase if left is None else f"{seen.phase}, about {duration(left)} left"


def _follow(bar: Bar, database_url: str, pid: int, over: threading.Event) -> None:
    task = bar.add_task("waiting", total=None)
    try:
        with connect(database_url) as connection:
            while not over.wait(_LOOK_EVERY):
                seen = progress(connection, pid)
                if seen is not None:
                    bar.update(
                        task, description=in_words(seen), completed=seen.done, total=seen.total or None
                    )
    except StoreError:
        return  # the build goes on without its picture
