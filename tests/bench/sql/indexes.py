"""What each kind of index costs and finds: build time, bytes on disk, recall and latency.

The queries are vectors of the same mixture that are not stored, asked one at a time over one connection,
warm.
"""

from __future__ import annotations

from typing import Any, LiteralString

from embedq_worker.store.collection import Collection
from embedq_worker.store.indexes.measuring import Measurement
from embedq_worker.store.indexes.recall import Figures, percentile, smallest
from tests.bench.report import Report
from tests.bench.sql.ground import Estate, Ground

K = 10
RECALL = 0.95
P95 = 15
"""Milliseconds a query."""
EF_SEARCH = (20, 40, 80, 160, 320)
EXACT_SECONDS = 90
"""For the exact searches of a kind; enough for all of them unless the machine is busy."""
KINDS: dict[str, dict[str, Any]] = {
    "vector": {},
    "halfvec column": {"vector_type": "halfvec"},
    "halfvec": {"quantization": "halfvec"},
    "binary": {"quantization": "binary"},
}
"""What a collection is made with; ``vector`` is ``docs`` itself. The last two have vector columns."""
_SIZES: dict[str, LiteralString] = {
    "table": "SELECT pg_relation_size(%s::regclass)",
    "TOAST": (
        "SELECT coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0)"
        " FROM pg_class WHERE oid = %s::regclass"
    ),
}
_INDEX_SIZE: LiteralString = "SELECT pg_relation_size(%s::regclass)"


def run(estate: Estate, report: Report, quick: bool) -> None:
    """Every kind, and the best of them."""
    measure(estate.ground(quick), report)


def measure(ground: Ground, report: Report) -> None:
    """One kind after the other, each dropped before the next is made."""
    best = [found for kind in KINDS if (found := _kind(ground, report, kind)) is not None]
    if not best:
        report.fail(f"a kind reaches a recall of {RECALL}", "none")
        return
    quickest = min(best, key=lambda each: each.p95)
    report.add(f"the quickest with such a recall: recall@{K}", quickest.recall, "{:.4f}", at_least=RECALL)
    report.add("the quickest with such a recall: p95, ms", quickest.p95, "{:.2f}", at_most=P95)


def _kind(ground: Ground, report: Report, kind: str) -> Figures | None:
    is_docs = kind == "vector"
    docs = ground.docs if is_docs else ground.copy("others", **KINDS[kind])
    report.add(f"{kind}: build, s", ground.building if is_docs else ground.build(docs), "{:,.1f}")
    _report_sizes(ground, report, kind, docs)
    found = smallest(_figures(ground, report, kind, docs), RECALL)
    if not is_docs:
        ground.drop(docs)
    return found


def _figures(ground: Ground, report: Report, kind: str, docs: Collection) -> list[Figures]:
    work = Measurement(ground.connection, docs, K)
    with work.snapshot():
        truths = work.search_exactly(ground.queries(), EXACT_SECONDS)
        exact = percentile((truth.milliseconds for truth in truths), 0.5)
        report.add(f"{kind}: exact search, p50, ms", exact, "{:.1f}")
        report.add(f"{kind}: queries", len(truths))
        figures = work.search_by_index(truths, EF_SEARCH)
    for each in figures:
        _report_figures(report, kind, each)
    return figures


def _report_sizes(ground: Ground, report: Report, kind: str, docs: Collection) -> None:
    table = docs.table.as_string()
    for part, query in _SIZES.items():
        report.add(f"{kind}: {part}, MB", ground.value(query, table) / 1e6)
    index = f"{docs.table_schema}.{docs.index_name}"
    report.add(f"{kind}: index, MB", ground.value(_INDEX_SIZE, index) / 1e6)


def _report_figures(report: Report, kind: str, each: Figures) -> None:
    what = f"{kind}: ef_search {each.ef_search}"
    report.add(f"{what}: recall@{K}", each.recall, "{:.4f}")
    report.add(f"{what}: p50, ms", each.p50, "{:.2f}")
    report.add(f"{what}: p95, ms", each.p95, "{:.2f}")
    if each.by_index < 1:
        report.fail(f"{what}: answered by the index", f"{each.by_index:.0%}")
