"""The contract between producers and workers: stable, versioned, language-neutral.

A **job** is one Celery message: task ``embedq.embed`` with ``kwargs={"job": Job}``, 1 to 256 **items** of one
**collection**. ``docs/contract.md`` explains it, ``docs/job.schema.json`` is generated from this module and a
test fails when they drift.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from embedq.errors import InvalidItem

EMBED_TASK = "embedq.embed"
QUERY_TASK = "embedq.query"
ENQUEUED_AT_HEADER = "embedq_enqueued_at"
"""Message header: seconds since the epoch by the broker's clock, when the job was enqueued."""
OUTBOX_HEADER = "embedq_outbox"
"""Message header: ``true`` on what a worker's relay sent. Each of its items has a row in ``embedq.outbox``,
which goes when the item is stored, superseded or a dead letter."""

MAX_ITEMS = 256
"""Items in one message."""
MAX_MESSAGE_BYTES = 1 << 20
"""Bytes of one job as UTF-8 JSON (1 MiB)."""
MAX_ID_LENGTH = 512
"""Characters of an item's id."""
MAX_METADATA_DEPTH = 32
"""Objects and lists inside each other in an item's metadata."""
MAX_VERSION = 2**63 - 1
"""Versions are Postgres bigints."""

Lane = Literal["query", "live", "bulk"]
"""Lanes share a model's slots: ``query`` before ``live`` before ``bulk``."""
Versions = Literal["clock", "given"]
"""Who orders the writes of one id: the broker's clock, or integers that the caller gives."""

COLLECTION_NAME = r"[a-z][a-z0-9_]{0,47}"
_COLLECTION_NAME = re.compile(COLLECTION_NAME)

REGISTRY_KEY = "embedq:registry"
"""Redis hash: collection name → ``Registered`` as JSON, and the field ``""`` that marks it as published."""
WAKE_KEY = "embedq:wake"
"""Redis list that idle workers wait on; a producer may push a token to be served at once."""
MAX_WAKE_TOKENS = 64
"""Who pushes to ``WAKE_KEY`` trims it to this length, so that tokens do not pile up while no worker waits."""
UNACKED_KEY = "embedq:unacked"
"""Redis hash of the messages in hand: fetched by a worker and not yet acknowledged."""


class Item(msgspec.Struct, omit_defaults=True, frozen=True):
    """One id and its text, or one id that is to be deleted."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    text: str | None = None
    version: Annotated[int, Meta(ge=0, le=MAX_VERSION)] | None = None
    metadata: dict[str, Any] | None = None
    deleted: bool = False


class Job(msgspec.Struct, omit_defaults=True, frozen=True):
    """One message: items of one collection."""

    v: Literal[1]
    collection: Annotated[str, Meta(pattern=f"^{COLLECTION_NAME}$")]
    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ITEMS)]
    source: Annotated[str, Meta(max_length=200)] | None = None


class Query(msgspec.Struct, omit_defaults=True, frozen=True):
    """One text whose vector is wanted at once; the vector is pushed to ``reply_key`` of the task's id."""

    v: Literal[1]
    collection: Annotated[str, Meta(pattern=f"^{COLLECTION_NAME}$")]
    text: Annotated[str, Meta(min_length=1)]


class QueryReply(msgspec.Struct, omit_defaults=True, frozen=True):
    """The answer to a query: the vector, or an error's code and explanation."""

    v: Literal[1]
    vector: list[float] | None = None
    generation: int | None = None
    """Which of the collection's models it comes from, one after the other: a search with a vector of another
    generation than the table's is refused."""
    error: str | None = None
    explanation: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """What producers know of a collection."""

    model: str
    dimensions: int
    versions: Versions


def is_collection_name(name: str) -> bool:
    """Whether ``name`` may name a collection (and so its table and queues)."""
    return _COLLECTION_NAME.fullmatch(name) is not None


def queue_name(collection: str, lane: Lane = "live") -> str:
    """The Celery queue of a collection's lane."""
    return f"embedq.{collection}" if lane == "live" else f"embedq.{collection}.{lane}"


def queue_parts(queue: str) -> tuple[str, Lane]:
    """The collection and the lane of a queue's name; any other name is taken for a live queue's."""
    parts = queue.split(".")
    collection = parts[1] if len(parts) > 1 else queue
    suffix = parts[2] if len(parts) == 3 else ""
    if suffix == "query":
        return collection, "query"
    return collection, "bulk" if suffix == "bulk" else "live"


def reply_key(task_id: str) -> str:
    """The Redis list that the answer to a query is pushed to."""
    return f"embedq:reply:{task_id}"


def sent_key(task_id: str) -> str:
    """The Redis key that says for some seconds that this message was pushed, and the others of its group."""
    return f"embedq:sent:{task_id}"


def check_item(item: Item, versions: Versions = "clock") -> None:
    """Hold an item against the rules that its types do not carry.

    Raises ``InvalidItem`` with the rule's name. Producers call it before sending and workers after receiving,
    so that a client in another language meets the same rules.
    """
    check_text(item.id, "id", item.id)
    if versions == "given" and item.version is None:
        raise InvalidItem(item.id, "version_missing", "this collection takes the caller's versions; give one")
    if item.deleted:
        if item.text is not None:
            raise InvalidItem(item.id, "deleted_with_text", "a delete carries no text")
        return
    if item.text is None:
        raise InvalidItem(item.id, "text_missing", "it has no text; to delete it, set deleted")
    if not item.text or item.text.isspace():
        raise InvalidItem(item.id, "text_empty", "its text is empty; there is nothing to embed")
    check_text(item.text, "text", item.id)
    if item.metadata:
        _check_metadata(item.metadata, item.id)


def check_text(text: str, what: str, item_id: str) -> None:
    """Refuse what Postgres text cannot hold: NUL, and lone surrogates, which UTF-8 has no bytes for.

    Raises ``InvalidItem`` with the rule ``<what>_nul`` or ``<what>_not_unicode``.
    """
    if "\x00" in text:
        raise InvalidItem(
            _printable(item_id), f"{what}_nul", f"its {what} holds a NUL character; Postgres cannot store it"
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidItem(
                _printable(item_id),
                f"{what}_not_unicode",
                f"its {what} holds a lone surrogate at character {error.start}",
            ) from None


def _check_metadata(value: object, item_id: str, depth: int = MAX_METADATA_DEPTH) -> None:
    """Hold metadata against JSON, which Python's reader takes wider than Postgres, and against its depth."""
    if isinstance(value, str):
        check_text(value, "metadata", item_id)
    elif isinstance(value, dict | list):
        if depth < 0:
            explanation = f"its metadata is nested more than {MAX_METADATA_DEPTH} levels"
            raise InvalidItem(item_id, "metadata_too_deep", explanation)
        if isinstance(value, dict):
            _check_keys(value, item_id)
            value = list(value.values())
        for inner in value:
            _check_metadata(inner, item_id, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        explanation = "its metadata holds NaN or an infinity, which JSON has no word for"
        raise InvalidItem(item_id, "metadata_not_json", explanation)
    elif not (value is None or isinstance(value, int | float)):
        explanation = f"its metadata holds a {type(value).__name__}, which is not JSON"
        raise InvalidItem(item_id, "metadata_not_json", explanation)


def _check_keys(value: dict[Any, Any], item_id: str) -> None:
    for key in value:
        if not isinstance(key, str):
            raise InvalidItem(item_id, "metadata_not_json", "its metadata has a key that is not a string")
        check_text(key, "metadata", item_id)


def _printable(item_id: str) -> str:
    return item_id.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
