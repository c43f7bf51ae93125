"""Dead letters as workers leave them, and what a replay queues of them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

from embedq_worker.store.dead_letters.burial import DeadLetter, bury
from embedq_worker.store.postgres.database import Database
from tests.support.stack import Stack


def died(number: int, **fields: Any) -> DeadLetter:
    """The letter of an item."""
    item = {"id": str(number), "text": f"text {number}", "version": number + 1, "metadata": {"n": number}}
    given: dict[str, Any] = {
        "collection": "docs",
        "lane": "live",
        "cause": "row",
        "code": "23514",
        "item_id": str(number),
        "version": number + 1,
        "source": "shop",
        "payload": json.dumps(item),
    }
    return DeadLetter(**(given | fields))


def bury_all(stack: Stack, letters: Sequence[DeadLetter]) -> None:
    """Write letters as a worker does."""

    async def write() -> None:
        database = Database(stack.database_url, connections=1)
        await database.open()
        await bury(database, letters)
        await database.close()

    asyncio.run(write())


def queued(stack: Stack, queue: str = "embedq.docs") -> list[dict[str, Any]]:
    """The jobs on a queue, oldest first."""
    raw: Any = stack.broker.lrange(queue, 0, -1)
    bodies = [json.loads(base64.b64decode(json.loads(message)["body"])) for message in reversed(raw)]
    return [body[1]["job"] for body in bodies]


def queued_ids(stack: Stack) -> list[str]:
    """The ids of the items on the queue of ``docs``."""
    return [item["id"] for job in queued(stack) for item in job["items"]]


def letter_ids(stack: Stack) -> list[str]:
    """The ids of the items that are dead letters."""
    return [item_id for (item_id,) in stack.sql("SELECT item_id FROM embedq.dead_letter ORDER BY number")]


def stored_versions(stack: Stack) -> dict[str, tuple[int, Any]]:
    """Version and metadata of each row of ``docs``, by id."""
    rows = stack.sql("SELECT id, version, metadata FROM docs")
    return {item_id: (version, metadata) for item_id, version, metadata in rows}
