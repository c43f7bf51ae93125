"""What a run has left in the database."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from tests.chaos.checker import Found, Held, Key, Letter, Stored
from tests.chaos.load import COLLECTIONS

_Connection = psycopg.Connection[tuple[Any, ...]]


def read(database_url: str, collections: Sequence[str] = COLLECTIONS) -> Found:
    """Every row of these collections, the ledger, and the dead letters."""
    with psycopg.connect(database_url) as connection:
        rows = [row for name in collections for row in _rows(connection, name)]
        return Found(rows, _ledger(connection), _letters(connection))


def _rows(connection: _Connection, collection: str) -> list[Stored]:
    query = """
        SELECT id, version, content, embedding::real[], extract(epoch FROM updated_at)::float8 FROM {}
    """
    return [
        Stored((collection, item_id), version, content, np.array(vector, dtype=np.float32), stored_at)
        for item_id, version, content, vector, stored_at in connection.execute(
            sql.SQL(query).format(sql.Identifier(collection))
        )
    ]


def _ledger(connection: _Connection) -> dict[Key, Held]:
    query = """
        SELECT collection.name, item.id, item.version, item.deleted_at IS NOT NULL
        FROM embedq.item JOIN embedq.collection ON collection.id = item.collection_id
    """
    return {
        (name, item_id): Held(version, deleted)
        for name, item_id, version, deleted in connection.execute(query)
    }


def _letters(connection: _Connection) -> list[Letter]:
    """One for each item: of a whole message that is a dead letter, its items are."""
    query = """
        SELECT collection, item_id, version, class || ' ' || code, payload
        FROM embedq.dead_letter LEFT JOIN embedq.dead_letter_text USING (number)
        ORDER BY number
    """
    letters = []
    for collection, item_id, version, code, payload in connection.execute(query):
        items = items_of(payload) if item_id is None else []
        for letter_id, letter_version in items or [(item_id, version)]:
            letters.append(Letter((collection, letter_id), letter_version, code))
    return letters


def items_of(message: str | None) -> list[tuple[str, int]]:
    """Id and version of each item of a raw message; none if it is not a job's."""
    try:
        _, arguments, _ = json.loads(b64decode(json.loads(message or "")["body"]))
        return [(item["id"], item["version"]) for item in arguments["job"]["items"]]
    except (ValueError, LookupError, TypeError):
        return []
