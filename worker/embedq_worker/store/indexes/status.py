"""How a collection's indexes stand: from the catalogue and the statistics alone, so cheap at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from embedq_sql import statement
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.functions import searched_by_each
from embedq_worker.store.indexes.progress import Progress, progress_of_each
from embedq_worker.store.indexes.size import disk_bytes
from embedq_worker.store.places import places
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.row_counts import Rows, row_counts
from embedq_worker.store.table_facts import TableFacts, table_facts
from embedq_worker.store.vector_index import VectorIndex, vector_indexes_of


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


class _Usage(NamedTuple):
    bytes: int
    scans: int
    valid: bool
    kind: str
    """The access method."""


class _Seen(NamedTuple):
    """What was found of one collection."""

    facts: TableFacts
    rows: Rows | None
    vectors: list[VectorIndex]
    usage: dict[str, _Usage]
    searched_by: Quantization
    building: Progress | None


def index_report(connection: Connection, collection: Collection) -> IndexReport:
    """How a collection's indexes stand. Raises ``StoreError``."""
    facts = table_facts(connection, [collection])
    return index_reports(connection, [collection], facts, row_counts(connection, [collection], facts))[0]


def index_reports(
    connection: Connection,
    collections: Sequence[Collection],
    facts: Sequence[TableFacts],
    rows: Sequence[Rows | None],
) -> list[IndexReport]:
    """How the indexes of each stand, by its table's facts and rows: in as many statements as for one."""
    with store_errors("the collections' indexes were not looked at"):
        usage = _usage(connection, collections)
        by = searched_by_each(connection, collections)
    vectors = vector_indexes_of(connection, collections)
    building = progress_of_each(connection, collections)
    seen = map(_Seen, facts, rows, vectors, usage, by, building)
    return [_report(collection, each) for collection, each in zip(collections, seen, strict=True)]


def _usage(connection: Connection, collections: Sequence[Collection]) -> list[dict[str, _Usage]]:
    found: list[dict[str, _Usage]] = [{} for _ in collections]
    for number, name, *row in connection.execute(statement("index_usage"), places(collections)):
        found[number - 1][name] = _Usage(*row)
    return found


def _report(collection: Collection, seen: _Seen) -> IndexReport:
    facts, rows = seen.facts, seen.rows.stored if seen.rows else None
    return IndexReport(
        collection=collection.name,
        quantization=collection.quantization,
        searched_by=seen.searched_by,
        rows=rows,
        dead_rows=facts.dead_rows,
        vacuumed_ago=facts.vacuumed_ago,
        statistics_for=facts.statistics_for,
        shared_buffers=facts.shared_buffers,
        effective_cache_size=facts.effective_cache_size,
        is_worked_on=facts.is_locked or seen.building is not None,
        building=_building(seen.building) if seen.building else None,
        indexes=_indexes(collection, seen, rows or 0),
    )


def _indexes(collection: Collection, seen: _Seen, rows: int) -> list[IndexStatus]:
    """An index that appeared between two statements has no size yet."""
    nothing = _Usage(0, 0, False, "")
    indexes = [
        _vector_status(collection, each, rows, seen.usage.get(each.name, nothing)) for each in seen.vectors
    ]
    full_text = seen.usage.get(collection.full_text_index_name, nothing)
    if full_text.kind == "gin":
        indexes.append(_full_text_status(collection.full_text_index_name, full_text))
    return indexes


def _vector_status(collection: Collection, index: VectorIndex, rows: int, usage: _Usage) -> IndexStatus:
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
        bytes=usage.bytes,
        needed_bytes=needed,
        scans=usage.scans,
    )


def _full_text_status(name: str, usage: _Usage) -> IndexStatus:
    return IndexStatus(
        name=name,
        kind="full text",
        valid=usage.valid,
        quantization=None,
        options=[],
        bytes=usage.bytes,
        needed_bytes=None,
        scans=usage.scans,
    )


def _building(seen: Progress) -> Building:
    return Building(phase=seen.phase, done=seen.done, total=seen.total, seconds_left=seen.seconds_left)
