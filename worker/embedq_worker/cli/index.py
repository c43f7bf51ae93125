"""``embedq index``: build and drop a collection's vector index."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic

import click
from rich.console import Console
from rich.progress import Progress as Bar

from embedq_worker.cli.session import open_database
from embedq_worker.errors import StoreError
from embedq_worker.settings import Settings
from embedq_worker.store.collections import get_collection
from embedq_worker.store.connections import connect
from embedq_worker.store.indexes import BuildOptions, build_index, drop_index, progress

_LOOK_EVERY = 0.5
"""Seconds between looks at the progress."""


@click.group(epilog="Example: embedq index build docs")
def index() -> None:
    """Build and drop a collection's vector index."""


@index.command(epilog="Example: embedq index build docs --memory 4096 --workers 4")
@click.argument("name")
@click.option("--m", type=click.IntRange(2, 100), default=16, show_default=True, help="Neighbours of a row.")
@click.option(
    "--ef-construction",
    type=click.IntRange(4, 1000),
    default=64,
    show_default=True,
    help="Candidates looked at for each row; at least twice --m.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    help="MiB for the build. Default: what it needs by estimate, 1024 at most.",
)
@click.option(
    "--workers", type=click.IntRange(min=0), help="Parallel workers. Default: as the server is set."
)
def build(name: str, m: int, ef_construction: int, memory: int | None, workers: int | None) -> None:
    """Build the HNSW index of collection NAME for cosine distance, while others read and write.

    Do it after the bulk load: loading into an index is many times slower. Ctrl-C removes what is half built.
    """
    if ef_construction < 2 * m:
        raise click.BadParameter(f"must be at least twice --m, {2 * m}", param_hint="--ef-construction")
    settings = Settings.from_environment()
    options = BuildOptions(
        m=m, ef_construction=ef_construction, memory=memory << 20 if memory else None, workers=workers
    )
    started = monotonic()
    with open_database(settings) as connection:
        found = get_collection(connection, name)
        pid = connection.info.backend_pid
        with _bar(settings.database_url, pid) if sys.stderr.isatty() else nullcontext():
            built = build_index(connection, found, options)
    click.echo(
        f"built {found.index_name} in {monotonic() - started:.1f} s"
        if built
        else f"{found.index_name} is there"
    )


@index.command(epilog="Example: embedq index drop docs")
@click.argument("name")
def drop(name: str) -> None:
    """Drop the index of collection NAME, for example before a bulk load; searches read every row then."""
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, name)
        dropped = drop_index(connection, found)
    click.echo(f"dropped {found.index_name}" if dropped else f"collection {name} has no index of embedq's")


@contextmanager
def _bar(database_url: str, pid: int) -> Iterator[None]:
    """Show the build's progress from a thread: the build itself stays on the main one, where Ctrl-C cancels
    it."""
    over = threading.Event()
    with Bar(console=Console(stderr=True), transient=True) as bar:
        thread = threading.Thread(target=_follow, args=(bar, database_url, pid, over), name="index progress")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _follow(bar: Bar, database_url: str, pid: int, over: threading.Event) -> None:
    task = bar.add_task("waiting", total=None)
    try:
        with connect(database_url) as connection:
            while not over.wait(_LOOK_EVERY):
                seen = progress(connection, pid)
                if seen is not None:
                    bar.update(task, description=seen.phase, completed=seen.done, total=seen.total or None)
    except StoreError:
        return  # the build goes on without its picture
