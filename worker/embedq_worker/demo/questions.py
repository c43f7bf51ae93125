"""The demo's questions, and their answers from SQL."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import psycopg

from embedq.producer import Producer
from embedq_worker.store.postgres.connections import Connection, store_errors

COLLECTION = "docs"
"""The collection that ``nearest.sql`` reads."""

QUESTIONS = (
    "how do I read a zip file?",
    "run a shell command and capture its output",
    "find the files that match a pattern",
    "cache the results of a function",
    "what is the median of some numbers?",
)

_SECONDS = 30.0
"""How long a worker may take to embed a question, on a busy machine."""


class Answer(NamedTuple):
    """A text near to a question; ``distance`` is the cosine distance, 0 (same direction) to 2."""

    id: str
    text: str
    distance: float


def shown_sql() -> str:
    """The query that answers the questions, as a reader would write it."""
    return "\n".join(line for line in _read("nearest.sql").splitlines() if not line.startswith("--"))


def ask(producer: Producer, connection: Connection, question: str) -> list[Answer]:
    """The texts nearest to ``question``, nearest first.

    Raises ``StoreError`` and as ``Producer.embed_query`` does.
    """
    vector = producer.embed_query(COLLECTION, question, timeout=_SECONDS)
    literal = f"[{','.join(map(repr, vector))}]"
    return [Answer(*row) for row in _rows(connection, "nearest.sql", [literal])]


def count_tokens(connection: Connection) -> int:
    """Tokens that the collection's texts were. Raises ``StoreError``."""
    ((tokens,),) = _rows(connection, "tokens.sql", [COLLECTION])
    return int(tokens)


def _rows(connection: Connection, file: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of a file's query, whose parameters are Postgres' own: $1."""
    with store_errors(f"collection {COLLECTION!r} was not read"), psycopg.RawCursor(connection) as cursor:
        return cursor.execute(_read(file), parameters).fetchall()


def _read(file: str) -> str:
    return files("embedq_worker.demo").joinpath(file).read_text("utf-8")
