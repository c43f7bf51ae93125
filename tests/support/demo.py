"""The demo's collection without its worker: the same texts and model, written to the table directly."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
from psycopg import sql

from embedq.contract import Item
from embedq_worker.catalogue import Model
from embedq_worker.demo.corpus import read_corpus, standard_library
from embedq_worker.demo.questions import COLLECTION
from embedq_worker.embedded import local_api
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.postgres.connections import Connection
from tests.support.filled import literal

_TEXTS_AT_ONCE = 1000


def load_demo(connection: Connection, model: local_api.Model) -> None:
    """Make the collection of `embedq demo` with its rows and its index; takes some seconds."""
    facts = Model(id=local_api.MODEL, dimensions=local_api.DIMENSIONS)
    collection = create_collection(connection, name=COLLECTION, model=facts)
    items = list(read_corpus(standard_library()))
    copy = sql.SQL("COPY {} (id, content, metadata, embedding, version) FROM STDIN").format(collection.table)
    with connection.cursor().copy(copy) as stream:
        for start in range(0, len(items), _TEXTS_AT_ONCE):
            batch = items[start : start + _TEXTS_AT_ONCE]
            vectors, _ = model.embed([item.text or "" for item in batch])
            for item, vector in zip(batch, vectors, strict=True):
                stream.write_row(_row(item, vector))
    build_index(connection, collection)


def _row(item: Item, vector: npt.NDArray[np.float32]) -> tuple[str, str | None, str, str, int]:
    return (item.id, item.text, json.dumps(item.metadata), literal(vector), 1)
