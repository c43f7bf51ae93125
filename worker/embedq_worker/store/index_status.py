"""How a collection's indexes stand: from the catalogue and the statistics alone, so cheap at any size."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from embedq_sql import statement
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import count_rows
from embedq_worker.store.connections import Connection, store_errors
from embedq_worker.store.functions import searched_by
from embedq_worker.store.index_progress import Progress, progress_of
from embedq_worker.store.index_size import disk_bytes
from embedq_worker.store.index_steps import is_valid
from embedq_worker.store.vector_index import VectorIndex, vector_indexes


class IndexStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One index on a collection's vectors or texts."""

    name: str
    kind: Literal["vector", "full text"]
    valid: bool
    quantization: Quantization | None
    """What it holds of a vector; null for one that serves no search of the collection, and for full text."""
    options: list[str]
    bytes: int
    needed_bytes: int | None
    """What a fresh HNSW index of the live rows would take, by estimate (5 %); null: not known."""
    scans: int
    """Since it was built, or since the statistics began."""


class Building(msgspec.Struct, frozen=True, kw_only=True):
    """A build that runs; ``done`` of ``total`` blocks of the table, in the phase that Postgres names."""

    phase: str
    done: int
    total: int
    seconds_left: float | None


class IndexReport(msgspec.Struct, frozen=True, kw_only=True):
    """A collection's indexes and what bears on them. Sizes in bytes, durations in seconds."""

    collection: str
    quantization: Quantization
    searched_by: Quantization
    """What its functions order by now: should be the quantisation once there is an index of it, else none."""
    rows: int | None
    """Null when somebody dropped the table or renamed a column; an estimate above 100,000."""
    dead_rows: int
    """Rows deleted or replaced since the last vacuum; an index still finds them, and a search drops them."""
    vacuumed_ago: float | None
    statistics_for: float
    """How long scans and dead rows have been counted."""
    shared_buffers: int
    effective_cache_size: int
    is_worked_on: bool
    """Somebody builds, rebuilds or drops an index of it now."""
    building: Building | None
    indexes: list[IndexStatus]


class _Table(NamedTuple):
    dead_rows: int
    vacuumed_ago: float | None
    statistics_for: float
    shared_buffers: int
    effective_cache_size: int
    is_locked: bool


def index_report(connection: Connection, collection: Collection) -> IndexReport:
    """How a collection's indexes stand. Raises ``StoreError``."""
    rows = count_rows(connection, collection)
    with store_errors(f"the indexes of collection {collection.name!r} were not looked at"):
        table = _table(connection, collection)
        usage = _usage(connection, collection)
        has_full_text = is_valid(connection, collection, collection.full_text_index_name)
        by = searched_by(connection, collection)
    vectors = vector_indexes(connection, collection)
    indexes = [_vector_status(collection, each, rows or 0, *usage.get(each.name, (0, 0))) for each in vectors]
    if has_full_text is not None:
        name = collection.full_text_index_name
        indexes.append(_full_text_status(name, has_full_text, *usage.get(name, (0, 0))))
    building = progress_of(connection, collection)
    return IndexReport(
        collection=collection.name,
        quantization=collection.quantization,
        searched_by=by,
        rows=rows,
        dead_rows=table.dead_rows,
        vacuumed_ago=table.vacuumed_ago,
        statistics_for=table.statistics_for,
        shared_buffers=table.shared_buffers,
        effective_cache_size=table.effective_cache_size,
        is_worked_on=table.is_locked or building is not None,
        building=_building(building) if building else None,
        indexes=indexes,
    )


def _table(connection: Connection, collection: Collection) -> _Table:
    row = connection.execute(statement("table_facts"), _names(collection)).fetchone()
    assert row is not None  # it is one of aggregates and settings
    return _Table(*row)


def _usage(connection: Connection, collection: Collection) -> dict[str, tuple[int, int]]:
    rows = connection.execute(statement("index_usage"), _names(collection))
    return {name: (size, scans) for name, size, scans in rows}


def _names(collection: Collection) -> dict[str, object]:
    return {
        "schema": collection.table_schema,
        "table": collection.table_name,
        "collection_id": collection.id,
    }


def _vector_status(
    collection: Collection, index: VectorIndex, rows: int, size: int, scans: int
) -> IndexStatus:
    named = dict(option.split("=", 1) for option in index.options)
    is_known = index.valid and index.quantization is not None and "lists" not in named
    needed = None
    if is_known and index.quantization is not None:
        needed = disk_bytes(collection, index.quantization, rows, int(named.get("m", 16)))
    return IndexStatus(
        name=index.name,
        kind="vector",
        valid=index.valid,
        quantization=index.quantization,
        options=index.options,
        bytes=size,
        needed_bytes=needed,
        scans=scans,
    )


def _full_text_status(name: str, valid: bool, size: int, scans: int) -> IndexStatus:
    return IndexStatus(
        name=name,
        kind="full text",
        valid=valid,
        quantization=None,
        options=[],
        bytes=size,
        needed_bytes=None,
        scans=scans,
    )


def _building(seen: Progress) -> Building:
    return Building(phase=seen.phase, done=seen.done, total=seen.total, seconds_left=seen.seconds_left)
