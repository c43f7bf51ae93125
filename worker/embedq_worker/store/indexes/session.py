"""What the session that builds an index is given: memory and parallel workers."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from embedq_sql import statement
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.indexes.size import graph_bytes
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.row_counts import count_rows

MOST_MEMORY = 1 << 30
"""Bytes for a build unless told otherwise, where a quarter of ``effective_cache_size`` is not more."""
WORTH_WORKERS = 10_000
"""Rows below which starting parallel workers takes longer than they save."""
_MEMORY_OF_WORKER = 32 << 20
"""Postgres starts no more workers than have this each of ``maintenance_work_mem``."""


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to build."""

    m: int = 16
    """Neighbours a row: higher finds more, costs memory and time. pgvector's default."""
    ef_construction: int = 64
    """Candidates looked at for each row, at least twice ``m``: higher finds more, costs time.

    pgvector's default.
    """
    memory: int | None = None
    """Bytes of ``maintenance_work_mem``; None: what the graph needs by estimate, up to ``MOST_MEMORY`` or a
    quarter of the server's ``effective_cache_size``, and never less than the server's own setting.

    Too low: the graph is finished on disk, many times slower. Too high: the machine swaps.
    """
    workers: int | None = None
    """Parallel workers beside the session itself; None: one for each further core where the server is on this
    machine, else as it is set. Too high: searches wait for the cores meanwhile."""


class Means(NamedTuple):
    """What a build gets; in bytes."""

    memory: int
    graph: int
    """What the graph needs by estimate."""
    workers: int

    @property
    def fits(self) -> bool:
        """Whether the graph stays in memory; one that does not is finished on disk, many times slower."""
        return self.graph <= self.memory


def means_of(
    connection: Connection, collection: Collection, quantization: Quantization, options: BuildOptions
) -> Means:
    """What a build with these options gets on this server. Raises ``StoreError``."""
    rows = count_rows(connection, collection) or 0
    graph = graph_bytes(collection, quantization, rows, options.m)
    workers = options.workers
    if workers is None:
        workers = _workers(connection) if rows >= WORTH_WORKERS else 0
    memory = options.memory
    if memory is None:
        most = max(MOST_MEMORY, _bytes(connection, "effective_cache_size") // 4)
        wanted = max(graph + graph // 10, (workers + 1) * _MEMORY_OF_WORKER)
        memory = max(_bytes(connection, "maintenance_work_mem"), min(wanted, most))
    return Means(memory, graph, workers)


def plain_means(connection: Connection, options: BuildOptions) -> Means:
    """What the build of any other index gets: the server's own settings unless told otherwise. Raises
    ``StoreError``."""
    memory = options.memory or _bytes(connection, "maintenance_work_mem")
    workers = int(_setting(connection, "max_parallel_maintenance_workers"))
    return Means(memory, 0, workers if options.workers is None else options.workers)


def prepare(connection: Connection, means: Means) -> None:
    """Set the session up for a build. Raises the driver's errors."""
    _set(connection, "maintenance_work_mem", f"{means.memory >> 10}kB")
    _set(connection, "max_parallel_maintenance_workers", str(means.workers))
    if means.workers:
        # Postgres counts the table's own pages for the workers that it is worth; vectors are stored apart.
        _set(connection, "min_parallel_table_scan_size", "0")


def _workers(connection: Connection) -> int:
    is_here = (connection.info.host or "/").startswith(("/", "@"))
    if not is_here:
        return int(_setting(connection, "max_parallel_maintenance_workers"))
    return min((os.cpu_count() or 1) - 1, int(_setting(connection, "max_parallel_workers")))


def _bytes(connection: Connection, name: str) -> int:
    return int(_value(connection, "setting_bytes", name))


def _setting(connection: Connection, name: str) -> str:
    return _value(connection, "setting", name)


def _value(connection: Connection, asked: str, name: str) -> str:
    with store_errors("the server's settings were not read"):
        (value,) = connection.execute(statement(asked), {"name": name}).fetchone() or ("0",)
    return str(value)


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(statement("session_setting"), {"name": name, "value": value})
