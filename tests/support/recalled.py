"""A collection of random vectors, and what is nearest in it by numpy."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Collection, Quantization, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.recall import Query
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.search import as_text

MODEL = Model(id="small", dimensions=32, allowed_dimensions=DimensionRange(min=1, max=4000))


POOR = BuildOptions(m=2, ef_construction=4, workers=0)


GOOD = BuildOptions(m=16, ef_construction=100, workers=0)


ROWS = 2000


K = 10


def vectors(rows: int) -> NDArray[np.float32]:
    """Random directions: few are near each other, which is hard for an index."""
    return np.random.default_rng(7).standard_normal((rows, MODEL.dimensions)).astype(np.float32)


def collection_of(
    connection: Connection,
    rows: int = ROWS,
    index: BuildOptions | None = GOOD,
    kind: VectorType = "vector",
    quantization: Quantization = "none",
) -> Collection:
    """A collection of such vectors; ids are numbers, every hundredth row is rare."""
    docs = create_collection(
        connection, name="docs", model=MODEL, vector_type=kind, quantization=quantization
    )
    with connection.cursor().copy("COPY docs (id, content, metadata, embedding, version) FROM STDIN") as copy:
        for number, vector in enumerate(vectors(rows)):
            copy.write_row(
                (str(number), "a text", json.dumps({"rare": number % 100 == 0}), as_text(vector), 1)
            )
    if index is not None:
        build_index(connection, docs, index)
    return docs


def brute_force(query: Query, rows: int, k: int) -> list[tuple[int, float]]:
    """Number and distance of the nearest rows, by numpy, the query itself left out."""
    stored = vectors(rows).astype(np.float64)
    wanted = np.array(json.loads(query.vector))
    distances = 1 - stored @ wanted / np.linalg.norm(stored, axis=1) / np.linalg.norm(wanted)
    order = [int(row) for row in np.argsort(distances) if query.row is None or query.row[0] != str(row)]
    return [(row, float(distances[row])) for row in order[:k]]
