"""A task message as Celery's Redis transport stores it: protocol 2 in kombu's envelope.

Composed here and not by kombu or Celery because it is the language-neutral contract anyway (docs/contract.md
shows one), is then the same under every Celery version, and is several times faster: kombu 5.7 makes a new
Redis client for each message it publishes. A test holds it against the message of a real Celery client.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from embedq.contract import EMBED_TASK, ENQUEUED_AT_HEADER, OUTBOX_HEADER, QUERY_TASK, Query, queue_name
from embedq.tracing import PARENT_HEADER

_encode = msgspec.json.Encoder().encode
_NO_CANVAS = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


@dataclass(frozen=True, slots=True)
class Message:
    """One encoded message for one queue, with the number of items it carries."""

    queue: str
    task_id: str
    payload: bytes
    items: int


def job_message(
    collection: str, queue: str, job: bytes, items: int, enqueued_at: float, traceparent: str | None = None
) -> Message:
    """The message of a job given as JSON. ``enqueued_at``: seconds since the epoch by the broker's clock."""
    return task_message(EMBED_TASK, collection, queue, job, items, enqueued_at, traceparent)


def task_message(
    task: str,
    collection: str,
    queue: str,
    job: bytes,
    items: int,
    enqueued_at: float,
    traceparent: str | None = None,
) -> Message:
    """The message of a task whose only argument is ``job``, JSON that names ``items`` items.

    ``traceparent``: the producer's span, where it is traced.
    """
    headers = _headers(task, collection, _counts(job, items), enqueued_at) | _traced(traceparent)
    return _message(queue, headers, _job_body(job), items)


def relayed_message(collection: str, queue: str, job: bytes, items: int, enqueued_at: float) -> Message:
    """The message of a job whose items have rows in the outbox; otherwise as ``job_message``."""
    headers = _headers(EMBED_TASK, collection, _counts(job, items), enqueued_at) | {OUTBOX_HEADER: True}
    return _message(queue, headers, _job_body(job), items)


def query_message(query: Query, enqueued_at: float, expires: str, traceparent: str | None = None) -> Message:
    """The message of a query. ``expires`` is the ISO 8601 time after which no worker starts on it."""
    counts = f"{{'text': <{len(query.text)} characters>}}"
    headers = _headers(QUERY_TASK, query.collection, counts, enqueued_at) | _traced(traceparent)
    headers["expires"] = expires
    body = b"[[]," + _encode(query) + b"," + _NO_CANVAS + b"]"
    return _message(queue_name(query.collection, "query"), headers, body, 1)


def _counts(job: bytes, items: int) -> str:
    return f"{{'job': <{items} items, {len(job)} bytes>}}"


def _job_body(job: bytes) -> bytes:
    return b'[[],{"job":' + job + b"}," + _NO_CANVAS + b"]"


def _headers(task: str, collection: str, kwargsrepr: str, enqueued_at: float) -> dict[str, Any]:
    """What ``celery.app.amqp.AMQP.as_task_v2`` writes, with representations that hold counts and no text."""
    task_id = _uuid()
    return {
        "lang": "py", "task": task, "id": task_id, "shadow": f"{task}:{collection}",
        "eta": None, "expires": None, "group": None, "group_index": None, "retries": 0,
        "timelimit": [None, None], "root_id": task_id, "parent_id": None,
        "argsrepr": "()", "kwargsrepr": kwargsrepr, "origin": _origin(os.getpid()),
        "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
        ENQUEUED_AT_HEADER: enqueued_at,
    }  # fmt: skip


def _traced(traceparent: str | None) -> dict[str, str]:
    return {} if traceparent is None else {PARENT_HEADER: traceparent}


def _message(queue: str, headers: dict[str, Any], body: bytes, items: int) -> Message:
    envelope = {
        "body": body,  # msgspec writes bytes as base64, which is what body_encoding says
        "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": {
            "correlation_id": headers["id"], "reply_to": "", "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": _uuid(),
        },
    }  # fmt: skip
    return Message(queue, headers["id"], _encode(envelope), items)


def _uuid() -> str:
    """A random UUID, version 4; ``uuid4`` takes three times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@cache
def _origin(pid: int) -> str:
    return f"gen{pid}@{socket.gethostname()}"
