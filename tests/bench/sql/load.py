"""A bulk load and then the build, against the same rows written into an index that is there already.

Both by embedq's own writer, ledger and all, in the same batches over as many connections.
"""

from __future__ import annotations

from tests.bench.report import Report
from tests.bench.sql.ground import FULL, Estate, Ground, Loaded

TIMES = 4
"""How many times as fast the load and build have to be."""
LIVE_SECONDS = 600
"""After these, writing into the live index ends; the rows that are left would have been the slowest."""


def run(estate: Estate, report: Report, quick: bool) -> None:
    """Every row both ways."""
    measure(estate.ground(quick), report)


def measure(ground: Ground, report: Report) -> None:
    """Bulk first: the collection is the one that the other scenarios use."""
    buffers = ground.value("SELECT pg_size_bytes(current_setting('shared_buffers')) >> 20")
    report.add("rows", ground.size.rows)
    report.add("dimensions", ground.size.dimensions)
    report.add("shared_buffers, MiB", buffers)
    loading, building = ground.loading, ground.building
    bulk = Loaded(loading.rows, loading.seconds + building)
    report.add("bulk: load, s", loading.seconds, "{:,.1f}")
    report.add("bulk: build, s", building, "{:,.1f}")
    report.add("bulk: rows a second", bulk.rate)
    live = load_live(ground)
    report.add("into a live index: rows", live.rows)
    report.add("into a live index, s", live.seconds, "{:,.1f}")
    report.add("into a live index: rows a second", live.rate)
    wanted = TIMES if ground.size == FULL else None  # a small index takes rows quickly
    report.add("bulk load and build, times as fast", bulk.rate / live.rate, "{:.1f}", at_least=wanted)


def load_live(ground: Ground) -> Loaded:
    """The same rows into an empty collection with an index."""
    docs = ground.create("live", vector_type="vector")
    ground.build(docs)
    loaded = ground.load(docs, LIVE_SECONDS)
    ground.drop(docs)
    return loaded
