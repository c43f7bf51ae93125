"""What was measured of a collection's index, and what follows from it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from psycopg import sql

from embedq_worker.store.collection import Collection
from embedq_worker.store.indexes.measuring import MOST_EF_SEARCH
from embedq_worker.store.indexes.recall import Figures, smallest


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What `embedq recall` says, as ``--json`` gives it."""

    collection: str
    k: int
    queries: int
    """How many were compared: fewer than asked for where time or rows ran out."""
    source: Literal["rows", "texts"]
    filter: str | None
    exact_p50: float
    """Median milliseconds of an exact search."""
    chosen: bool
    """Whether Postgres uses the index when nothing presses it to."""
    present: int
    """``hnsw.ef_search`` as it was found."""
    figures: list[Figures]
    target: float
    recommended: int | None
    """The smallest measured ``ef_search`` that reaches the target."""
    statements: list[str]
    """What sets it: for everybody in this database, or for this role alone."""
    advice: list[str]


def statements(database: str, role: str, ef_search: int) -> list[str]:
    """How to set it for new sessions of a database, and of one role there."""
    names = {
        "database": sql.Identifier(database),
        "role": sql.Identifier(role),
        "value": sql.Literal(ef_search),
    }
    return [
        sql.SQL(form).format(**names).as_string()
        for form in (
            "ALTER DATABASE {database} SET hnsw.ef_search = {value};",
            "ALTER ROLE {role} IN DATABASE {database} SET hnsw.ef_search = {value};",
        )
    ]


def advice(
    collection: Collection, figures: Sequence[Figures], target: float, *, chosen: bool, filtered: bool
) -> list[str]:
    """What to do or to know, beside the figures."""
    said = []
    if smallest(figures, target) is not None:
        said.append(
            "a role that is no superuser sets it in a session that has used pgvector: SELECT '[1]'::vector"
        )
    if not chosen and not filtered:
        said.append(
            "Postgres reads the whole table instead of the index, which is exact and cheaper while it has "
            "few rows; the figures are those of the index"
        )
    if filtered and max(each.by_index for each in figures) == 0:
        said.append("the filter keeps so few rows that they are compared one by one: exact at any ef_search")
    if smallest(figures, target) is None:
        said += _ways_up(collection, max(each.ef_search for each in figures))
    return said


def _ways_up(collection: Collection, highest: int) -> Iterator[str]:
    """What may raise the recall, the cheapest first."""
    if highest < MOST_EF_SEARCH:
        higher = sorted({min(2 * highest, MOST_EF_SEARCH), MOST_EF_SEARCH})
        yield f"measure higher values: --ef-search {','.join(map(str, higher))}"
    yield (f"build a better index: `embedq index rebuild {collection.name} --m 32 --ef-construction 200`")
    if collection.quantization != "none":
        finer = "halfvec" if collection.quantization == "binary" else "none"
        yield (
            f"{collection.quantization} quantisation costs recall: "
            f"`embedq index rebuild {collection.name} --quantization {finer}`"
        )


def lines(measured: Measured) -> Iterator[str]:
    """For a person."""
    source = "stored rows as queries" if measured.source == "rows" else "questions"
    where = f" where metadata contain {measured.filter}" if measured.filter else ""
    yield (
        f"{measured.collection}: recall@{measured.k}{where} of {measured.queries} {source}; "
        f"an exact search takes {measured.exact_p50:,.1f} ms; hnsw.ef_search is {measured.present}"
    )
    yield "ef_search    recall     worst    p50 ms    p95 ms"
    for each in measured.figures:
        yield f"{each.ef_search:>9}{each.recall:>10.4f}{each.worst:>10.3f}{each.p50:>10.2f}{each.p95:>10.2f}"
    if measured.recommended is None:
        yield f"none reaches a recall of {measured.target:g}"
    else:
        yield f"recall {measured.target:g} needs ef_search {measured.recommended}:"
        yield from (f"  {each}" for each in measured.statements)
    yield from measured.advice
    if measured.source == "rows":
        yield "a stored row is an easier query than a question of somebody's: --texts FILE asks real ones"
