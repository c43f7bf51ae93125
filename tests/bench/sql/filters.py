"""Searches among the rows that match a filter: as many rows as there are, up to ten, and quickly.

The shares are spread over all clusters. One cluster is the hard case: the index walks among the rows near
the query, and those that match are somewhere else.
"""

from __future__ import annotations

from embedq_worker.store.indexes.measuring import Measurement
from tests.bench.report import Report
from tests.bench.sql.ground import Estate, Ground

K = 10
P95 = 50
"""Milliseconds a query, where few rows match. The others are shown, not held to it: above a thousand matches
they go by the index, and rows of another cluster are far down its way."""
FEW = "0.1 % of the rows"
FILTERS = {
    FEW: '{"permille": 7}',
    "1 % of the rows": '{"percent": 7}',
    "10 % of the rows": '{"tenth": 7}',
    "one cluster": '{"cluster": 3}',
    "every row": "{}",
}
EXACT_SECONDS = 60


def run(estate: Estate, report: Report, quick: bool) -> None:
    """Every filter, through the collection's own function."""
    measure(estate.ground(quick), report)


def measure(ground: Ground, report: Report) -> None:
    """``docs`` with its index."""
    report.add("the index is built, s", ground.building, "{:,.1f}")
    for name, where in FILTERS.items():
        _measure(ground, report, name, where)


def _measure(ground: Ground, report: Report, name: str, where: str) -> None:
    matching = ground.value("SELECT count(*) FROM docs WHERE metadata @> %s", where)
    work = Measurement(ground.connection, ground.docs, K, where)
    with work.snapshot():
        truths = work.search_exactly(ground.queries(), EXACT_SECONDS)
        (figures,) = work.search_by_index(truths, [work.present])
    report.add(f"{name}: rows that match", matching)
    report.add(f"{name}: fewest rows that a query gets", figures.rows, at_least=min(K, matching))
    report.add(f"{name}: recall@{K}", figures.recall, "{:.4f}")
    report.add(f"{name}: answered by the index", figures.by_index, "{:.0%}")
    report.add(f"{name}: p50, ms", figures.p50, "{:.2f}")
    report.add(f"{name}: p95, ms", figures.p95, "{:.2f}", at_most=P95 if name == FEW else None)
