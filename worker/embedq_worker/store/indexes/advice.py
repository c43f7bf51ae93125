"""What should be done about a collection's indexes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.indexes.status import IndexReport, IndexStatus

WORTH_AN_INDEX = 10_000
"""Rows above which a search without an index is slow enough to remind of it."""
BLOATED = 2.0
"""Times what the live rows need; a fresh index is at 1."""
WORTH_REBUILDING = 4 << 20
"""Bytes that a rebuild has to save."""
DEAD_SHARE = 0.2
"""Dead rows to live ones; autovacuum's own threshold is as high."""
UNUSED_FOR = 86_400.0
"""Seconds of statistics without a scan."""

Code = Literal["missing", "functions", "left_behind", "bloated", "dead_rows", "not_used", "memory"]


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do; ``text`` says what is the case, and after the colon what to do about it."""

    code: Code
    text: str


def advice_on(collection: Collection, report: IndexReport) -> list[Advice]:
    """Everything that should be done; nothing while somebody works on its indexes."""
    if report.rows is None or report.is_worked_on:
        return []
    said = [*_functions(report), *_missing(collection, report), *_left_behind(collection, report)]
    for index in report.indexes:
        if index.valid and index.kind == "vector":
            said += [
                *_bloated(collection, index),
                *_not_used(report, index),
                *_memory(collection, report, index),
            ]
    return [*said, *_dead_rows(collection, report)]


def serves(report: IndexReport) -> bool:
    """Whether the collection's functions have an index to search by."""
    return _has_index(report, report.searched_by)


def _has_index(report: IndexReport, quantization: Quantization) -> bool:
    return any(index.valid and index.quantization == quantization for index in report.indexes)


def _functions(report: IndexReport) -> Iterator[Advice]:
    """A command that was killed leaves functions and index apart, and so does somebody who drops an index."""
    if report.searched_by != "none" and not serves(report):
        said = f"searches miss an index of quantization {report.searched_by}: they read every row, inexactly"
    elif report.searched_by != report.quantization and _has_index(report, report.quantization):
        said = f"searches do not use the index of quantization {report.quantization}"
    else:
        return
    yield Advice(code="functions", text=f"{said}: run `embedq migrate`, which makes the functions anew")


def _missing(collection: Collection, report: IndexReport) -> Iterator[Advice]:
    if (
        not (serves(report) or _has_index(report, report.quantization))
        and (report.rows or 0) > WORTH_AN_INDEX
    ):
        yield Advice(
            code="missing", text=f"searches read every row: run `embedq index build {collection.name}`"
        )


def _left_behind(collection: Collection, report: IndexReport) -> Iterator[Advice]:
    passing = (collection.new_index_name, collection.old_index_name)
    for index in report.indexes:
        if not index.valid or index.name in passing:
            mending = _mending(collection, index)
            said = f"{index.name} was left behind by a build that ended, and costs every write: {mending}"
            yield Advice(code="left_behind", text=said)


def _mending(collection: Collection, index: IndexStatus) -> str:
    if index.kind == "full text":
        return f"run `embedq index build {collection.name} --full-text`"
    if index.name in (collection.index_name, collection.new_index_name, collection.old_index_name):
        return f"run `embedq index rebuild {collection.name}`"
    return f"DROP INDEX CONCURRENTLY {collection.table_schema}.{index.name}"


def _bloated(collection: Collection, index: IndexStatus) -> Iterator[Advice]:
    needed = index.needed_bytes
    if needed and index.bytes > BLOATED * needed and index.bytes - needed > WORTH_REBUILDING:
        times = f"{index.name} has {index.bytes / needed:.1f} times the size that its rows need"
        yield Advice(code="bloated", text=f"{times}: run `embedq index rebuild {collection.name}`")


def _not_used(report: IndexReport, index: IndexStatus) -> Iterator[Advice]:
    if index.scans or report.statistics_for < UNUSED_FOR or (report.rows or 0) <= WORTH_AN_INDEX:
        return
    since = f"it was built, or the statistics began {report.statistics_for / 86_400:.0f} days ago"
    mending = "see with EXPLAIN whether queries order by <=> and have a LIMIT, or drop it"
    yield Advice(code="not_used", text=f"no search used {index.name} since {since}: {mending}")


def _memory(collection: Collection, report: IndexReport, index: IndexStatus) -> Iterator[Advice]:
    if index.bytes > report.effective_cache_size:
        why = "effective_cache_size, so searches wait for the disk: give the server more memory"
    elif index.bytes > report.shared_buffers:
        why = "shared_buffers, so searches copy pages from the system's cache: raise it"
    else:
        return
    said = f"{index.name} is larger than {why}{_smaller(collection, index)}"
    yield Advice(code="memory", text=said)


def _smaller(collection: Collection, index: IndexStatus) -> str:
    if index.quantization == "binary":
        return ""
    is_full = index.quantization == "none" and collection.vector_type == "vector"
    smaller = "halfvec" if is_full else "binary"
    return f", or quantise it with `embedq index rebuild {collection.name} --quantization {smaller}`"


def _dead_rows(collection: Collection, report: IndexReport) -> Iterator[Advice]:
    is_indexed = any(index.valid for index in report.indexes)
    if is_indexed and report.dead_rows > max(1_000, DEAD_SHARE * (report.rows or 0)):
        table = f"{collection.table_schema}.{collection.table_name}"
        said = f"{report.dead_rows} dead rows, which searches find and drop, giving fewer than they could"
        yield Advice(code="dead_rows", text=f"{said}: VACUUM {table}, and let autovacuum do so earlier")
