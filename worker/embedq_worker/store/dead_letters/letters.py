"""What a dead letter becomes when it is replayed: its item again, or its message again.

A letter of class ``text`` or ``row`` keeps its item. One of class ``successor`` keeps a fill: its item is
stored, and only the vector of the model that the collection moves to is missing. Any other keeps a message:
the raw one as it stood in Redis, or the keyword arguments of one that could be read so far (``not_a_job``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from embedq.contract import MAX_ITEMS, Item, Lane, Versions, check_item, queue_name
from embedq.errors import InvalidItem
from embedq.messages import Message, job_message
from embedq_worker.errors import NotReplayable
from embedq_worker.store.moving.fill_message import Fill, fill_message

OF_AN_ITEM = ("text", "row")
"""Classes whose payload is an item."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with what it said."""

    number: int
    collection: str | None
    version: int | None
    cause: str = msgspec.field(name="class")
    code: str
    source: str | None
    lane: str | None
    first_at: datetime
    payload: str | None
    """None once it was removed for its age."""

    @property
    def clock_version(self) -> int:
        """The version of an item that names none: microseconds, by the clock."""
        return self.version if self.version is not None else int(self.first_at.timestamp() * 1_000_000)


class _Kwargs(msgspec.Struct, frozen=True):
    """The keyword arguments of a job's message."""

    job: msgspec.Raw


class _Job(msgspec.Struct, frozen=True):
    """A job whose items are the worker's to read."""

    v: Literal[1]
    collection: str
    items: Annotated[list[Any], Meta(min_length=1, max_length=MAX_ITEMS)]


class _Envelope(msgspec.Struct, frozen=True):
    """A message as kombu stores it."""

    body: str
    headers: dict[str, Any]
    properties: dict[str, Any]


_item = msgspec.json.Decoder(Item)
_fill = msgspec.json.Decoder(Fill)
_kwargs = msgspec.json.Decoder(_Kwargs)
_job = msgspec.json.Decoder(_Job)
_envelope = msgspec.json.Decoder(_Envelope)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def as_new(letter: Letter, known: Mapping[str, Versions], lane: Lane) -> Item | Message:
    """What to enqueue in ``lane`` for a letter, with its own id and version.

    ``known`` has the collections that exist. Raises ``NotReplayable``.
    """
    if letter.collection is None or letter.collection not in known:
        raise NotReplayable(f"there is no collection {letter.collection!r}; create it first")
    if letter.lane == "query":
        raise NotReplayable("it was a query, and nobody waits for its answer any more")
    if letter.cause == "successor":
        return _read_fill(letter, letter.payload)
    if letter.payload is None:
        raise NotReplayable("its text is gone: it was kept for dead_letter_text_days")
    if letter.cause in OF_AN_ITEM:
        return _read_item(letter, letter.payload, known[letter.collection])
    return _read_message(letter, letter.payload, letter.collection, queue_name(letter.collection, lane))


def _read_item(letter: Letter, payload: str, versions: Versions) -> Item:
    try:
        item = _item.decode(payload)
        check_item(item, versions)
    except InvalidItem as error:
        raise NotReplayable(f"its item breaks the contract: {error.rule}") from None
    except _UNREADABLE:
        raise NotReplayable("its item is not of the contract's types") from None
    if item.version is not None:
        return item
    return msgspec.structs.replace(item, version=letter.clock_version)


def _read_fill(letter: Letter, payload: str | None) -> Message:
    """Never an item: what the letter knows of it is a part of what is stored."""
    try:
        fill = None if payload is None else _fill.decode(payload)
    except _UNREADABLE:
        fill = None
    if fill is None or fill.collection != letter.collection:
        raise NotReplayable(
            "its item is stored, the new model refuses its text: shorten or delete the item, then run "
            f"`embedq collection migrate {letter.collection}`"
        )
    return fill_message(fill, time.time())


def _read_message(letter: Letter, payload: str, collection: str, queue: str) -> Message:
    raw = payload.encode()
    if _is_envelope(raw):
        return Message(queue, "", raw, 1)
    try:
        body = bytes(_kwargs.decode(raw).job)
        job = _job.decode(body)
    except _UNREADABLE:
        raise NotReplayable(f"what is kept of it is neither a message nor a job ({letter.code})") from None
    if job.collection != collection:
        raise NotReplayable(f"its job came by the queue of another collection ({letter.code})")
    return job_message(collection, queue, body, len(job.items), letter.clock_version / 1e6)


def _is_envelope(raw: bytes) -> bool:
    try:
        _envelope.decode(raw)
    except _UNREADABLE:
        return False
    return True
