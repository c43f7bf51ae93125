"""What the pool hands to the engine, and how a job is read from it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

import msgspec

from embedq.contract import (
    ENQUEUED_AT_HEADER,
    MAX_ITEMS,
    MAX_VERSION,
    QUERY_TASK,
    Item,
    Job,
    Lane,
    Query,
    Versions,
    check_item,
    check_text,
    queue_parts,
)
from embedq.errors import InvalidItem
from embedq_worker.engine.summary import Finish
from embedq_worker.errors import NotAJob
from embedq_worker.store.moving.fill_message import FILL_TASK, Fill
from embedq_worker.tracing import Spans

MAX_SOURCE_LENGTH = 200
"""Characters of a job's source."""


@dataclass(slots=True)
class Delivery:
    """A message's content.

    ``payload`` is the task's keyword arguments, or the raw body of what is not a job.
    """

    task_id: str
    queue: str
    payload: object
    headers: Mapping[str, Any]
    finish: Finish
    """Called once, from the engine's thread: after the commit, or when it is given back."""
    not_a_job: str | None = None
    """Why it is not a job, if that is known already."""
    cause: str = "not_a_job"
    """The class of the dead letter that it becomes then."""
    attempts: int = 0
    """How often it was tried before that."""
    spans: Spans = ()
    """Its span, from when it is taken, if it is traced."""

    @property
    def collection(self) -> str:
        """The collection whose queue the message came from."""
        return queue_parts(self.queue)[0]

    @property
    def lane(self) -> Lane:
        """The lane whose queue the message came from."""
        return queue_parts(self.queue)[1]

    @property
    def is_query(self) -> bool:
        """Whether it is a query. Raises ``NotAJob`` for a query in a lane of jobs, or the other way round."""
        asked = self.headers.get("task") == QUERY_TASK
        if asked != (self.lane == "query"):
            raise NotAJob("wrong_queue")
        return asked

    @property
    def is_fill(self) -> bool:
        """Whether it names rows to be filled, and carries no items of its own."""
        return self.headers.get("task") == FILL_TASK

    @property
    def seconds_left(self) -> float:
        """Seconds until its ``expires`` header, ISO 8601; infinity without a usable one."""
        try:
            expires = datetime.fromisoformat(str(self.headers.get("expires")))
            aware = expires if expires.tzinfo else expires.replace(tzinfo=UTC)  # Celery's own, without a zone
            return aware.timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return inf

    @property
    def said_enqueued_at(self) -> float | None:
        """Seconds since the epoch: when it was enqueued as its header says; None without a usable one."""
        said = self.headers.get(ENQUEUED_AT_HEADER)
        usable = isinstance(said, int | float) and not isinstance(said, bool) and 0 < said < MAX_VERSION / 1e6
        return float(said) if usable and said is not None else None

    @property
    def enqueued_at(self) -> float:
        """Seconds since the epoch: when it was enqueued as its header says, else now."""
        said = self.said_enqueued_at
        return time.time() if said is None else said

    @property
    def clock_version(self) -> int:
        """The version of items that name none: microseconds, by the broker's clock."""
        return int(self.enqueued_at * 1_000_000)


@dataclass(slots=True)
class ReadJob:
    """A job's items: those that keep the contract's rules, and the others as they came with what is wrong."""

    source: str | None
    good: list[Item] = field(default_factory=list)
    bad: list[tuple[object, InvalidItem]] = field(default_factory=list)


class _Envelope(msgspec.Struct, frozen=True):
    """A job whose items are not looked at yet."""

    v: int
    collection: str
    items: list[Any]
    source: str | None = None


def read_job(delivery: Delivery, versions: Versions) -> ReadJob:
    """Read a job; one bad item does not cost its neighbours. Raises ``NotAJob``."""
    payload = delivery.payload
    raw = payload.get("job") if isinstance(payload, dict) else None
    try:
        job = msgspec.convert(raw, Job)
        items: list[Item | InvalidItem] = list(job.items)
        source = job.source
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
        envelope = _read_envelope(raw)
        items = [_read_item(item) for item in envelope.items]
        source = envelope.source
    named = raw.get("collection") if isinstance(raw, dict) else None
    if named != delivery.collection:
        raise NotAJob("wrong_queue")
    raws = raw["items"] if isinstance(raw, dict) else []
    return _checked(ReadJob(_usable(source)), zip(raws, items, strict=True), versions)


def read_query(delivery: Delivery) -> Query:
    """Read a query. Raises ``NotAJob``."""
    try:
        query = msgspec.convert(delivery.payload, Query)
        check_text(query.text, "text", "query")
    except (msgspec.ValidationError, InvalidItem):
        raise NotAJob("not_a_query") from None
    if query.collection != delivery.collection:
        raise NotAJob("wrong_queue")
    return query


def read_fill(delivery: Delivery) -> Fill:
    """Read a fill. Raises ``NotAJob``."""
    payload = delivery.payload
    try:
        fill = msgspec.convert(payload.get("job") if isinstance(payload, dict) else None, Fill)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise NotAJob("not_a_fill") from None
    if fill.collection != delivery.collection:
        raise NotAJob("wrong_queue")
    return fill


def version_of(item: Item, delivery: Delivery) -> int:
    """The item's version; microseconds by the broker's clock where the client gave none."""
    return item.version if item.version is not None else delivery.clock_version


def version_in(raw: object, delivery: Delivery) -> int:
    """The version of a bad item, as ``version_of`` would say it of a good one."""
    version = raw.get("version") if isinstance(raw, dict) else None
    usable = isinstance(version, int) and not isinstance(version, bool) and 0 <= version <= MAX_VERSION
    return version if usable and version is not None else delivery.clock_version


def as_payload(raw: object) -> str:
    """Anything that came in a message as text that Postgres can store.

    JSON in ASCII, or the text with its NULs escaped.
    """
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", "backslashreplace")
    if isinstance(raw, str):
        return raw.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")
    return json.dumps(raw, default=repr)


def item_id_of(raw: object) -> str | None:
    """The id in a bad item, if it is one that can be stored."""
    item_id = raw.get("id") if isinstance(raw, dict) else None
    if not isinstance(item_id, str) or not item_id or "\x00" in item_id:
        return None
    return item_id.encode("utf-8", "backslashreplace").decode()[:512]


def _usable(source: str | None) -> str | None:
    """A service's name for itself, if it can be stored; a bad one costs no item."""
    usable = source is not None and source.isprintable() and len(source) <= MAX_SOURCE_LENGTH
    return source if usable else None


def _checked(job: ReadJob, items: Any, versions: Versions) -> ReadJob:
    for raw, item in items:
        try:
            if isinstance(item, InvalidItem):
                raise item
            check_item(item, versions)
        except InvalidItem as error:
            job.bad.append((raw, error))
        else:
            job.good.append(item)
    return job


def _read_envelope(raw: object) -> _Envelope:
    try:
        envelope = msgspec.convert(raw, _Envelope)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise NotAJob("not_a_job") from None
    if envelope.v != 1:
        raise NotAJob("unknown_version")
    if not 1 <= len(envelope.items) <= MAX_ITEMS:
        raise NotAJob("too_many_items" if envelope.items else "no_items")
    return envelope


def _read_item(raw: object) -> Item | InvalidItem:
    try:
        return msgspec.convert(raw, Item)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return InvalidItem(item_id_of(raw), "wrong_type", "its fields are not of the contract's types")
