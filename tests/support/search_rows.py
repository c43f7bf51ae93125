"""Small tables of random rows for the search functions, and the right answers by plain numpy."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedq_worker.store.postgres.connections import Connection

DIMENSIONS = 3

Vector = tuple[int, ...]
Key = tuple[str, int]


class Row(NamedTuple):
    """A row of a collection; ``lease`` is how often its text has that word."""

    id: str
    chunk: int
    vector: Vector
    kind: int
    lease: int

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.id, self.chunk


# Small whole numbers: many rows are equally far away, or the same.
vectors = st.tuples(*[st.integers(-2, 2)] * DIMENSIONS).filter(any)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Up to twelve items of one to three chunks."""
    chunks = draw(st.lists(st.integers(1, 3), max_size=12))
    places = [(str(number), chunk) for number, count in enumerate(chunks) for chunk in range(count)]
    return [
        Row(*place, draw(vectors), draw(st.integers(0, 2)), draw(st.sampled_from((0, 0, 1, 2))))
        for place in places
    ]


def store(connection: Connection, table: str, rows: list[Row]) -> None:
    """Let the table hold these rows and no others."""
    connection.execute(f"TRUNCATE {table}")  # a name of the tests
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (id, chunk, content, metadata, embedding, version)"  # noqa: S608 # likewise
            " VALUES (%s, %s, %s, %s, %s, 1)",
            [
                (
                    row.id,
                    row.chunk,
                    "text" + " lease" * row.lease,
                    json.dumps({"kind": row.kind}),
                    literal(row.vector),
                )
                for row in rows
            ],
        )


def literal(vector: Vector) -> str:
    """A vector as SQL has it."""
    return f"[{','.join(map(str, vector))}]"


def distances(rows: list[Row], query: Vector) -> dict[Key, float]:
    """The cosine distance of each row."""
    held: NDArray[Any] = np.array([row.vector for row in rows], dtype=float).reshape(-1, DIMENSIONS)
    asked = np.array(query, dtype=float)
    lengths = np.linalg.norm(held, axis=1) * np.linalg.norm(asked)
    return dict(zip([row.key for row in rows], (1 - held @ asked / lengths).tolist(), strict=True))


def check_nearest(found: list[tuple[Any, ...]], right: dict[Key, float], k: int) -> None:
    """These are the k nearest of the rows whose distances are given, nearest first.

    Which of several at one distance they are, is not said.
    """
    keys = [(row[0], row[1]) for row in found]
    by_sql = [row[4] for row in found]
    assert len(set(keys)) == len(keys)
    np.testing.assert_allclose(by_sql, [right[key] for key in keys], atol=1e-6)
    np.testing.assert_allclose(by_sql, sorted(right.values())[:k], atol=1e-6)
