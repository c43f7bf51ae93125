"""Quantisation: what a vector index holds of a vector, and how a search makes up for what that leaves out.

An index of shorter vectors is smaller and quicker, and it ranks by distances that are a little wrong. So a
search takes more candidates from it than it was asked for, and ranks these again by the vectors themselves.
"""

from __future__ import annotations

from typing import NamedTuple

from psycopg import sql

from embedq_worker.errors import CollectionConflict, VectorTooLong
from embedq_worker.store.collection import Collection, Quantization, VectorType

_MOST_DIMENSIONS: dict[Quantization, dict[VectorType, int]] = {
    "none": {"vector": 2_000, "halfvec": 4_000},
    "halfvec": {"vector": 4_000},
    "binary": {"vector": 16_000, "halfvec": 16_000},
}
"""What an HNSW index takes of each type of column, by quantisation (pgvector's README, HNSW).

Binary would go to 64,000, but no column holds more than 16,000. A halfvec column has no halves to save.
"""

_ROW = sql.Identifier("stored")


class Ordering(NamedTuple):
    """How a search takes its candidates from an index; composed for a template that calls the row ``stored``
    and whose function has the arguments ``query``, a vector, and ``k``, the wanted rows."""

    distance: sql.Composable
    """What the index orders by."""
    candidates: sql.Composable
    """How many rows to take from it; null, which is no limit, where ``k`` is null."""


def column_type(
    dimensions: int, asked: VectorType | None = None, quantization: Quantization = "none"
) -> VectorType:
    """The column type for vectors of ``dimensions``: as asked, else the first that such an index takes.

    Raises ``VectorTooLong`` where no index could ever be built, with the quantisation whose index could.
    """
    most = _MOST_DIMENSIONS[quantization]
    fitting = [kind for kind in most if dimensions <= most[kind]]
    if asked in fitting or (asked is None and fitting):
        return asked or fitting[0]
    if asked == "halfvec" and quantization == "halfvec":
        raise CollectionConflict(
            "a halfvec column needs no halfvec quantisation: its index holds halves as it is; "
            "leave --quantization out, or --type"
        )
    column = f"{asked} columns" if asked else "vectors"
    index = "an index" if quantization == "none" else f"an index of quantisation {quantization}"
    raise VectorTooLong(
        f"{column} of {dimensions} dimensions do not fit {index}, which takes "
        f"{most[asked] if asked else max(most.values())} at most; {_ways_out(dimensions)}"
    )


def index_key(collection: Collection, quantization: Quantization) -> sql.Composable:
    """What an index holds of a row, in brackets, and the class of its operators."""
    vector = sql.Identifier(collection.vector_column)
    operators = {
        "none": f"{collection.vector_type}_cosine_ops",
        "halfvec": "halfvec_cosine_ops",
        "binary": "bit_hamming_ops",
    }
    return sql.SQL("({} {})").format(
        _held(vector, collection.dimensions, quantization), sql.Identifier(operators[quantization])
    )


def ordering(collection: Collection, quantization: Quantization, function: str) -> Ordering:
    """How a function of that plain name searches through an index of that kind; ``none`` is right without any
    index, too.

    Its arguments are composed with its name before them: a column of an own table may be called so.
    """
    query, k = sql.Identifier(function, "query"), sql.Identifier(function, "k")
    stored = sql.SQL("{}.{}").format(_ROW, sql.Identifier(collection.vector_column))
    held = _held(stored, collection.dimensions, quantization)
    if quantization == "none":
        return Ordering(sql.SQL("{} <=> {}").format(held, query), k)
    if quantization == "halfvec":
        distance = sql.SQL("{} <=> {}::halfvec({})").format(held, query, sql.Literal(collection.dimensions))
        return Ordering(distance, sql.SQL(_HALFVEC_CANDIDATES).format(k=k))
    distance = sql.SQL("{} <~> binary_quantize({})").format(held, query)
    return Ordering(distance, sql.SQL(_BINARY_CANDIDATES).format(k=k))


def _ways_out(dimensions: int) -> str:
    ways = []
    if dimensions <= _MOST_DIMENSIONS["none"]["halfvec"]:
        ways += ["halfvec columns (--type halfvec)", "--quantization halfvec"]
    if dimensions <= _MOST_DIMENSIONS["binary"]["vector"]:
        ways.append("--quantization binary")
    return "".join(f"use {way}, " for way in ways) + ("or " if ways else "") + "choose fewer dimensions"


# Halves change the order of near ties alone.
_HALFVEC_CANDIDATES = "2 * {k}::bigint"
# Bits tell far less. A scan has looked at hnsw.ef_search rows anyway, so all of them are ranked again, and
# who raises it gets better answers. Null before the session has loaded pgvector: for its first plan at most.
_BINARY_CANDIDATES = (
    "CASE WHEN {k} IS NOT NULL"
    " THEN greatest(10 * {k}::bigint, current_setting('hnsw.ef_search', true)::integer) END"
)


def _held(vector: sql.Composable, dimensions: int, quantization: Quantization) -> sql.Composable:
    forms = {"none": "{}", "halfvec": "({}::halfvec({}))", "binary": "(binary_quantize({})::bit({}))"}
    return sql.SQL(forms[quantization]).format(vector, sql.Literal(dimensions))
