"""Measures a collection's vector index against exact search, on live rows.

Everything happens in one read-only transaction, which sees the same rows throughout. The index is asked
through the collection's own functions; that it was used, and that the exact search did without it, is held
by the server's count of index scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import Any

import msgspec
from psycopg import IsolationLevel, errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import RecallUnknown
from embedq_worker.store.collection import Collection
from embedq_worker.store.functions import function_name
from embedq_worker.store.indexes.recall import Figures, Neighbour, Query, percentile, recall
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.vector_index import vector_indexes

MOST_EF_SEARCH = 1000
"""What pgvector takes."""
_DEFAULT_EF_SEARCH = 40
"""pgvector's, where the session has not loaded it yet."""
_DRAWN_FROM = 50
"""Rows looked at for each one that becomes a query, so that they come from many blocks."""

Advance = Callable[[int], None]
"""Takes how much is done so far."""


class Truth(msgspec.Struct, frozen=True):
    """A query and what an exact search found for it."""

    query: Query
    distances: list[float]
    milliseconds: float


class Measurement:
    """One collection, for searches of ``k`` rows, ``where`` metadata contain a JSON object, or of all."""

    def __init__(
        self, connection: Connection, collection: Collection, k: int, where: str | None = None
    ) -> None:
        self._connection = connection
        self._collection = collection
        self._k = k
        self._where = where
        self._names = _names(collection)
        self.exact = sql.SQL(template("exact_search")).format(**self._names)
        """The statement of the exact search."""
        self._indexes: list[str] = []
        self.present = _DEFAULT_EF_SEARCH
        """``hnsw.ef_search`` of this session before anything is measured."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """The transaction in which all else is called.

        Raises ``RecallUnknown`` without a usable index, or without metadata to filter by.
        """
        if self._where is not None and self._collection.metadata_column is None:
            raise RecallUnknown(
                f"the table of collection {self._collection.name!r} has no column of metadata: "
                "there is nothing to filter by"
            )
        with store_errors(self._undone), _snapshot(self._connection):
            self._indexes = self._usable_indexes()
            (value,) = self._row(sql.SQL(statement("present_setting")), {"name": "hnsw.ef_search"})
            self.present = int(value or _DEFAULT_EF_SEARCH)
            yield

    def draw(self, rows: int) -> list[Query]:
        """Stored rows as queries, spread over the table; all there are if those are fewer."""
        table = self._collection.table.as_string(self._connection)
        (estimated,) = self._row(sql.SQL(statement("estimated_rows")), {"table": table})
        percent = min(100.0, 100.0 * _DRAWN_FROM * rows / max(estimated, 1))
        drawn = self._sample(rows, percent)
        if len(drawn) < rows and percent < 100:  # the statistics are old
            drawn = self._sample(rows, 100)
        if not drawn:
            raise RecallUnknown(f"collection {self._collection.name!r} is empty: there is nothing to search")
        return drawn

    def search_exactly(
        self, queries: Sequence[Query], seconds: float, advance: Advance | None = None
    ) -> list[Truth]:
        """What is true for each query; only of the first ones if ``seconds`` are over before.

        A query for which there is nothing to find is left out. Raises ``RecallUnknown`` if there is none
        left, or not one was answered in time.
        """
        self._set("enable_indexscan", "off")
        self._set("enable_seqscan", "on")  # of two ways that are both off, Postgres takes the cheaper one
        before, until, truths = self._scans(), monotonic() + seconds, []
        for number, query in enumerate(queries, 1):
            truth = self._truth(query, until)
            if truth is None:
                break
            truths.append(truth)
            if advance is not None:
                advance(number)
        self._set("enable_indexscan", "on")
        if self._scans() != before:
            raise RecallUnknown("the exact search went through the index: nothing to compare with")
        return self._comparable(truths, seconds)

    def chosen(self, truth: Truth) -> bool:
        """Whether Postgres answers by the index when nobody presses it to."""
        before = self._scans()
        self._search(truth.query)
        return self._scans() > before

    def search_by_index(
        self, truths: Sequence[Truth], ef_searches: Sequence[int], advance: Advance | None = None
    ) -> list[Figures]:
        """The figures of each ``ef_search``, in that order, warm.

        The index is used even where the whole table is read more quickly. Raises ``RecallUnknown`` where it
        was not used all the same; with a filter that is no fault.
        """
        self._set("enable_seqscan", "off")
        self._set_ef_search(max(ef_searches), truths)
        for truth in truths:
            self._search(truth.query)
        figures = []
        for number, ef_search in enumerate(ef_searches, 1):
            self._set_ef_search(ef_search, truths)
            figures.append(self._figures(truths, ef_search))
            self._check_used(figures[-1])
            if advance is not None:
                advance(number)
        return figures

    @property
    def _undone(self) -> str:
        return f"the recall of collection {self._collection.name!r} was not measured"

    def _usable_indexes(self) -> list[str]:
        every = vector_indexes(self._connection, self._collection)
        found = [index for index in every if index.quantization is not None]
        name = self._collection.name
        if not found:
            raise RecallUnknown(
                f"collection {name!r} has no index for cosine distance: every search is exact, recall is 1; "
                f"`embedq index build {name}` builds one"
            )
        if not any(index.valid for index in found):
            raise RecallUnknown(
                f"the index of collection {name!r} is not valid: it is being built, or a build failed; "
                f"wait for it, or run `embedq index build {name}`"
            )
        return [index.name for index in found]

    def _sample(self, rows: int, percent: float) -> list[Query]:
        composed = sql.SQL(template("sample_rows")).format(**self._names)
        drawn = self._connection.execute(composed, {"rows": rows, "percent": percent})
        return [Query(vector=vector, row=(id_, chunk)) for id_, chunk, vector in drawn]

    def _truth(self, query: Query, until: float) -> Truth | None:
        """None when the time is over, before or meanwhile."""
        left = until - monotonic()
        if left <= 0:
            return None
        try:
            with self._connection.transaction():  # a savepoint: a time-out leaves the snapshot alive
                self._set("statement_timeout", f"{max(1, int(left * 1000))}ms")
                started = perf_counter()
                found = self._neighbours(self.exact, query)
                elapsed = perf_counter() - started
                self._set("statement_timeout", "0")
        except errors.QueryCanceled:
            return None
        return Truth(query, query.neighbours(found, self._k), elapsed * 1000)

    def _comparable(self, truths: list[Truth], seconds: float) -> list[Truth]:
        if not truths:
            raise RecallUnknown(
                f"not one exact search was done within {seconds:g} s: give it more time (--seconds), "
                "or measure on a smaller copy"
            )
        comparable = [truth for truth in truths if truth.distances]
        if not comparable:
            raise RecallUnknown(
                "exact search finds no row beside the query itself: the collection has too few rows, "
                "or the filter matches none"
            )
        return comparable

    def _figures(self, truths: Sequence[Truth], ef_search: int) -> Figures:
        shares, times, rows, by_index, before = [], [], [], 0, self._scans()
        for truth in truths:
            started = perf_counter()
            found = self._search(truth.query)
            times.append((perf_counter() - started) * 1000)
            distances = truth.query.neighbours(found, self._k)
            rows.append(len(distances))
            shares.append(recall(truth.distances, distances))
            after = self._scans()
            by_index, before = by_index + (after > before), after
        return Figures(
            ef_search=ef_search,
            recall=sum(shares) / len(shares),
            worst=min(shares),
            p50=percentile(times, 0.5),
            p95=percentile(times, 0.95),
            rows=min(rows),
            by_index=by_index / len(truths),
        )

    def _search(self, query: Query) -> list[Neighbour]:
        verb = "search" if self._where is None else "search_where"
        function = function_name(self._collection, verb)
        composed = sql.SQL(template(f"call_{verb}")).format(function=function, type=self._names["type"])
        return self._neighbours(composed, query)

    def _neighbours(self, search: sql.Composed, query: Query) -> list[Neighbour]:
        wanted = {
            "query": query.vector,
            "k": self._k + (query.row is not None),  # it finds itself, too
            "filter": self._where,
        }
        # Planned anew each time: as a prepared statement the driver's sixth call may get another plan.
        return [Neighbour(*row) for row in self._connection.execute(search, wanted, prepare=False)]

    def _check_used(self, figures: Figures) -> None:
        """What was not found by the index says nothing of it. A few matches of a filter are compared one by
        one on purpose."""
        if self._where is None and figures.by_index < 1:
            name = self._collection.name
            raise RecallUnknown(
                f"the index of collection {name!r} was not used: {1 - figures.by_index:.0%} of the searches "
                f"at hnsw.ef_search {figures.ef_search} did without it; see `embedq index status {name}`"
            )

    def _set_ef_search(self, ef_search: int, truths: Sequence[Truth]) -> None:
        """A row that finds itself takes one place that a stranger's query has for a neighbour."""
        own = any(truth.query.row for truth in truths)
        self._set("hnsw.ef_search", str(min(ef_search + own, MOST_EF_SEARCH)))

    def _set(self, name: str, value: str) -> None:
        self._connection.execute(statement("local_setting"), {"name": name, "value": value})

    def _scans(self) -> int:
        named = {"schema": self._collection.table_schema, "indexes": self._indexes}
        counted, scans = self._row(sql.SQL(statement("index_scans")), named)
        if not counted:
            raise RecallUnknown(
                "the server counts no index scans, so that nobody sees whether the index was used: "
                "set track_counts = on"
            )
        return int(scans)

    def _row(self, query: sql.SQL, parameters: dict[str, Any]) -> tuple[Any, ...]:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None  # each of these gives one
        return row


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    """A transaction that sees the same rows throughout, however many others write, and writes none."""
    before = connection.isolation_level, connection.read_only
    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    try:
        with connection.transaction():
            yield
    finally:
        if not connection.closed:
            connection.isolation_level, connection.read_only = before


def _names(collection: Collection) -> dict[str, sql.Composable]:
    column = {
        "id": sql.SQL("{}::text").format(_column(collection.key_column)),
        # An order by a bare 0 would be one by the column of that number.
        "chunk": _column("chunk") if collection.is_managed else sql.SQL("0::integer"),
        "vector": _column(collection.vector_column),
        "metadata": sql.SQL("NULL::jsonb")
        if collection.metadata_column is None
        else _column(collection.metadata_column),
    }
    return {"table": collection.table, "type": sql.SQL(collection.vector_type), **column}


def _column(name: str) -> sql.Identifier:
    return sql.Identifier("stored", name)
