"""What the scenarios lie on: a Postgres with room, collections of one mixture, queries from outside."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, LiteralString, NamedTuple, Self

import psutil
from psycopg import sql

from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.progress import progress
from embedq_worker.store.indexes.recall import Query
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.search import as_text
from embedq_worker.store.writer import Writer
from tests.bench.sampler import Sampler
from tests.bench.sql.mixture import CLUSTERS, Mixture, Vector

WRITERS = 2
"""Connections that write at a time, as many as a worker process has for a collection."""
BATCH = 250
"""Rows of a transaction."""
_UNSTORED = 1_000_000_000
"""The first query's place in the mixture: no table gets that far."""
_TELL_EVERY = 20.0
"""Seconds between lines of progress."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rows: int
    dimensions: int
    queries: int
    clusters: int = CLUSTERS


FULL = Size(100_000, 1536, 200)
QUICK = Size(4_000, 256, 40, clusters=10)


class Loaded(NamedTuple):
    """How many rows were stored, in how many seconds."""

    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


class Ground:
    """A migrated database, and what is in it."""

    def __init__(self, database_url: str, size: Size) -> None:
        self.size = size
        self.connection: Connection = connect(database_url)
        self._database_url = database_url
        self._mixture = Mixture(size.dimensions, size.clusters)
        self._rows: list[Row] = []
        apply_migrations(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def create(self, name: str, **options: Any) -> Collection:
        """An empty collection; the options are those of ``create_collection``."""
        every = DimensionRange(min=1, max=4000)
        model = Model(id="bench", dimensions=self.size.dimensions, allowed_dimensions=every)
        return create_collection(self.connection, name=name, model=model, **options)

    def load(self, collection: Collection, at_most: float = math.inf, *, writers: int = WRITERS) -> Loaded:
        """Store every row as a worker does; only the first ones if ``at_most`` seconds are over before."""
        return asyncio.run(self._load(collection, at_most, writers))

    def build(self, collection: Collection) -> float:
        """Build the index; returns the seconds that it took."""
        pid, started = self.connection.info.backend_pid, time.monotonic()
        with connect(self._database_url) as watching:

            def tell() -> None:
                if seen := progress(watching, pid):
                    _tell(f"{collection.name}: {seen.phase}, {seen.done:,} of {seen.total:,} blocks", started)

            with Sampler(_TELL_EVERY, tell):
                assert build_index(self.connection, collection)
        return time.monotonic() - started

    @cached_property
    def docs(self) -> Collection:
        """The collection ``docs`` with every row."""
        return self._loaded[0]

    @property
    def loading(self) -> Loaded:
        """How ``docs`` was loaded, without an index."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Collection, Loaded]:
        docs = self.create("docs", vector_type="vector")
        return docs, self.load(docs)

    @cached_property
    def building(self) -> float:
        """Seconds that the index of ``docs`` took; built when first asked for."""
        return self.build(self.docs)

    def copy(self, name: str, **options: Any) -> Collection:
        """Another collection of the same rows, without an index."""
        made, table = self.create(name, **options), self.docs.table
        self.connection.execute(
            sql.SQL("INSERT INTO {} SELECT * FROM {} ORDER BY id").format(made.table, table)
        )
        return made

    def drop(self, collection: Collection) -> None:
        """Drop a collection."""
        drop_collection(self.connection, collection.name)

    def queries(self) -> list[Query]:
        """Vectors of the same mixture that are not stored."""
        return [
            Query(vector=as_text(vector)) for vector, _ in self._mixture.take(_UNSTORED, self.size.queries)
        ]

    def value(self, query: LiteralString, *parameters: object) -> Any:
        """The one value that a query gives."""
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]

    async def _load(self, collection: Collection, at_most: float, writers: int) -> Loaded:
        database = Database(self._database_url, connections=writers, timeout=600)
        await database.open()
        rows = self._every_row()
        writer, starts = Writer(database, collection), iter(range(0, len(rows), BATCH))
        done, told = 0, time.monotonic()
        started = time.monotonic()

        async def write() -> None:
            nonlocal done, told
            while time.monotonic() < started + at_most and (start := next(starts, None)) is not None:
                batch = rows[start : start + BATCH]
                await writer.write(batch)
                done += len(batch)
                if time.monotonic() > told + _TELL_EVERY:
                    told = time.monotonic()
                    _tell(f"{collection.name}: {done:,} of {len(rows):,} rows", started)

        await asyncio.gather(*(write() for _ in range(writers)))
        loaded = Loaded(done, time.monotonic() - started)
        await database.close()
        return loaded

    def _every_row(self) -> list[Row]:
        """Made once, so that loading is the database's time."""
        if not self._rows:
            taken = self._mixture.take(0, self.size.rows)
            self._rows = [_row(number, cluster, vector) for number, (vector, cluster) in enumerate(taken)]
        return self._rows


class Estate:
    """The ground that all scenarios of a run share, made when the first one asks for it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ground: Ground | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ground(self, quick: bool) -> Ground:
        """With settings that Postgres' and pgvector's documentation recommend."""
        if self._ground is None:
            # A quarter of the memory, as PostgreSQL's manual has it. build_index sets what a build needs.
            settings = {"shared_buffers": f"{psutil.virtual_memory().total // 4 >> 20}MB"}
            server = self._stack.enter_context(Postgres(settings=settings))
            self._ground = self._stack.enter_context(Ground(server.url, QUICK if quick else FULL))
        return self._ground


def _row(number: int, cluster: int, vector: Vector) -> Row:
    """Its metadata divide the rows into equal shares without regard to the vectors, and by cluster."""
    drawn = number * 7919 % 1000
    shares = b'"permille": %d, "percent": %d, "tenth": %d' % (drawn, drawn % 100, drawn % 10)
    return Row(
        id=f"{number:08}",
        version=1,
        content_hash=number.to_bytes(32),
        parts=(Part(f"text {number}", vector),),
        metadata=b'{%b, "cluster": %d}' % (shares, cluster),
    )


def _tell(what: str, started: float) -> None:
    print(f"    {what} after {time.monotonic() - started:.0f} s", flush=True)
