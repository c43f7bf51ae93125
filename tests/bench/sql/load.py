"""A bulk load and then the build, against the same rows written into an index that is there already.

Both by embedq's own writer, ledger and all, in the same batches over as many connections: all cores work both
ways. ``one writer`` is what a plain loader does, one transaction after the other.
"""

from __future__ import annotations

from typing import Any

from tests.bench.report import Report
from tests.bench.sql.ground import FULL, WRITERS, Estate, Ground, Loaded

TIMES = 4
"""How many times as fast the load and build have to be."""
LIVE_SECONDS = 600
"""After these, writing into the live index ends; the rows that are left would have been the slowest."""
HALFVEC: dict[str, Any] = {"vector_type": "halfvec"}


def run(estate: Estate, report: Report, quick: bool) -> None:
    """Every row both ways."""
    measure(estate.ground(quick), report)


def measure(ground: Ground, report: Report) -> None:
    """Bulk first: the collection of vectors is the one that the other scenarios use."""
    buffers = ground.value("SELECT pg_size_bytes(current_setting('shared_buffers')) >> 20")
    report.add("rows", ground.size.rows)
    report.add("dimensions", ground.size.dimensions)
    report.add("shared_buffers, MiB", buffers)
    bulk = _bulk(report, "vector", ground.loading, ground.building)
    _live(ground, report, "vector", bulk, {"vector_type": "vector"})
    _live(ground, report, "vector, one writer", bulk, {"vector_type": "vector"}, writers=1)
    _live(ground, report, "halfvec column", _bulk_of_halves(ground, report), HALFVEC)


def _bulk_of_halves(ground: Ground, report: Report) -> Loaded:
    docs = ground.create("halves", **HALFVEC)
    bulk = _bulk(report, "halfvec column", ground.load(docs), ground.build(docs))
    ground.drop(docs)
    return bulk


def _bulk(report: Report, kind: str, loading: Loaded, building: float) -> Loaded:
    report.add(f"{kind}: bulk: load, s", loading.seconds, "{:,.1f}")
    report.add(f"{kind}: bulk: build, s", building, "{:,.1f}")
    bulk = Loaded(loading.rows, loading.seconds + building)
    report.add(f"{kind}: bulk: rows a second", bulk.rate)
    return bulk


def _live(
    ground: Ground,
    report: Report,
    kind: str,
    bulk: Loaded,
    options: dict[str, Any],
    *,
    writers: int = WRITERS,
) -> None:
    """The same rows into an empty collection with an index."""
    docs = ground.create("live", **options)
    ground.build(docs)
    live = ground.load(docs, LIVE_SECONDS, writers=writers)
    ground.drop(docs)
    report.add(f"{kind}: into a live index: rows", live.rows)
    report.add(f"{kind}: into a live index, s", live.seconds, "{:,.1f}")
    report.add(f"{kind}: into a live index: rows a second", live.rate)
    wanted = TIMES if ground.size == FULL else None  # a small index takes rows quickly
    report.add(f"{kind}: bulk, times as fast", bulk.rate / live.rate, "{:.1f}", at_least=wanted)
