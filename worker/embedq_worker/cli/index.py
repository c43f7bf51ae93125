"""``embedq index``: build, rebuild, drop and look at a collection's indexes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from time import monotonic
from typing import Any

import click
import msgspec

from embedq_worker.cli.index_bar import follow_build
from embedq_worker.cli.index_page import Page, page
from embedq_worker.cli.session import open_database
from embedq_worker.cli.sizes import size
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import get_collection, list_collections
from embedq_worker.store.indexes.advice import advice_on
from embedq_worker.store.indexes.building import build_index, drop_index
from embedq_worker.store.indexes.full_text import build_full_text_index, drop_full_text_index
from embedq_worker.store.indexes.rebuild import Changes, rebuild_index, rebuild_options
from embedq_worker.store.indexes.session import BuildOptions, means_of
from embedq_worker.store.indexes.status import IndexReport, index_report
from embedq_worker.store.postgres.connections import Connection


@click.group(epilog="Example: embedq index build docs")
def index() -> None:
    """Build, rebuild, drop and look at a collection's indexes."""


_MEMORY = click.option(
    "--memory",
    type=click.IntRange(min=1),
    help="MiB for the build. Default: what it needs by estimate, at most 1024 or a quarter of "
    "effective_cache_size.",
)
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Parallel workers. Default: the other cores if the server is on this machine, else as it is set.",
)


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
@_MEMORY
@_WORKERS
@click.option(
    "--full-text", is_flag=True, help="Build the index of full text search, for NAME_hybrid, instead."
)
def build(
    name: str, m: int, ef_construction: int, memory: int | None, workers: int | None, full_text: bool
) -> None:
    """Build the HNSW index of collection NAME for cosine distance, while others read and write.

    Do it after the bulk load: loading into an index takes several times as long. Ctrl-C removes what is half
    built.
    """
    _check_width(m, ef_construction)
    options = BuildOptions(m=m, ef_construction=ef_construction, memory=_bytes(memory), workers=workers)
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, name)
        if full_text:
            index_name, making = found.full_text_index_name, build_full_text_index
        else:
            index_name, making = found.index_name, build_index
            _warn_of_memory(connection, found, found.quantization, options)
        built, seconds = _timed(settings, connection, lambda: making(connection, found, options))
    click.echo(f"built {index_name} in {seconds:.1f} s" if built else f"{index_name} is there")


@index.command(epilog="Example: embedq index rebuild docs --quantization halfvec")
@click.argument("name")
@click.option(
    "--quantization",
    type=click.Choice(["none", "halfvec", "binary"]),
    help="What the index is to hold: the vectors, halves of them, or a bit a dimension. Default: as now.",
)
@click.option("--m", type=click.IntRange(2, 100), help="Neighbours of a row. Default: as now.")
@click.option(
    "--ef-construction",
    type=click.IntRange(4, 1000),
    help="Candidates looked at for each row; at least twice --m. Default: as now.",
)
@_MEMORY
@_WORKERS
def rebuild(
    name: str,
    quantization: Quantization | None,
    m: int | None,
    ef_construction: int | None,
    memory: int | None,
    workers: int | None,
) -> None:
    """Build the index of collection NAME anew beside the old one, then swap them; searches always have one.

    For another quantisation or other options, and for an index that is bloated. It needs the disk for both.
    Interrupted, it leaves nothing that the next one does not remove or go on from.
    """
    if m is not None and ef_construction is not None:
        _check_width(m, ef_construction)
    changes = Changes(
        quantization=quantization,
        m=m,
        ef_construction=ef_construction,
        memory=_bytes(memory),
        workers=workers,
    )
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, name)
        options = rebuild_options(connection, found, changes)
        _warn_of_memory(connection, found, quantization or found.quantization, options)
        rebuilt, seconds = _timed(settings, connection, lambda: rebuild_index(connection, found, changes))
    click.echo(
        f"rebuilt {found.index_name} in {seconds:.1f} s: quantization {rebuilt.quantization}, m {options.m}, "
        f"ef_construction {options.ef_construction}"
    )


@index.command(epilog="Example: embedq index drop docs")
@click.argument("name")
@click.option("--full-text", is_flag=True, help="Drop the index of full text search instead.")
def drop(name: str, full_text: bool) -> None:
    """Drop the index of collection NAME, for example before a bulk load; searches read every row then."""
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, name)
        index_name = found.full_text_index_name if full_text else found.index_name
        dropped = (drop_full_text_index if full_text else drop_index)(connection, found)
    click.echo(f"dropped {index_name}" if dropped else f"collection {name} has no index {index_name}")


@index.command(epilog="Example: embedq index status docs --json")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
def status(name: str | None, as_json: bool) -> None:
    """Show the indexes of collection NAME, or of all: their size, use and state, and what should be done."""
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        wanted = [get_collection(connection, name)] if name else list_collections(connection)
        found = [_page(each, index_report(connection, each)) for each in wanted]
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else page(found))


def _page(collection: Collection, report: IndexReport) -> Page:
    return Page(report=report, advice=advice_on(collection, report))


def _check_width(m: int, ef_construction: int) -> None:
    if ef_construction < 2 * m:
        raise click.BadParameter(f"must be at least twice --m, {2 * m}", param_hint="--ef-construction")


def _bytes(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes << 20


def _warn_of_memory(
    connection: Connection, collection: Collection, quantization: Quantization, options: BuildOptions
) -> None:
    means = means_of(connection, collection, quantization, options)
    if not means.fits:
        click.echo(
            f"the graph needs about {size(means.graph)} and the build has {size(means.memory)}: it will be "
            f"finished on disk, many times slower; give it --memory {(means.graph >> 20) + 1} if the server "
            "has that much, or quantise it",
            err=True,
        )


def _timed(settings: Settings, connection: Connection, work: Callable[[], Any]) -> tuple[Any, float]:
    started = monotonic()
    pid = connection.info.backend_pid
    with follow_build(settings.database_url, pid) if sys.stderr.isatty() else nullcontext():
        result = work()
    return result, monotonic() - started
