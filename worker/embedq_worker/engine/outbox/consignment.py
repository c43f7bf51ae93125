"""A consignment: rows of the outbox packed into the messages that go to Redis together.

A row that breaks the contract becomes a dead letter here: the trigger that made it must not break the
application's transaction, and so does not judge.
"""

from __future__ import annotations

from math import inf

import msgspec

from embedq.contract import MAX_ID_LENGTH, Item, Lane, check_item
from embedq.errors import InvalidItem
from embedq.items import encode_item, read_item
from embedq.messages import Message, relayed_message
from embedq.packing import PackedJob, Packer
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.outbox.unsettled import OutboxLane, OutboxRow

_TOO_LARGE = "item_too_large"


class Consignment:
    """Takes the rows of one lane; ``messages`` are full where there are enough rows of one source."""

    def __init__(self, lane: OutboxLane) -> None:
        self._collection = lane.collection or ""
        self._lane: Lane = "bulk" if lane.is_bulk else "live"
        self._queue = lane.queue
        self._packings: dict[str | None, _Packing] = {}
        self.messages: list[Message] = []
        self.sent: list[int] = []
        """Numbers of the rows whose items are in the messages."""
        self.letters: list[DeadLetter] = []
        self.refused: list[int] = []
        """Numbers of the rows that are dead letters."""

    def add(self, row: OutboxRow) -> None:
        """Take a row."""
        packing = self._packings.get(row.source)
        if packing is None:
            packing = self._packings[row.source] = _Packing(self._collection, row.source)
        try:
            full = packing.add(row)
        except InvalidItem as error:
            self.letters.append(self._letter(row, error.rule))
            self.refused.append(row.number)
            return
        self.sent.append(row.number)
        if full is not None:
            self._collect(*full)

    def finish(self) -> None:
        """No more rows come: what is packed so far is a message, too."""
        for packing in self._packings.values():
            if (rest := packing.rest()) is not None:
                self._collect(*rest)

    def _collect(self, job: PackedJob, enqueued_at: float) -> None:
        self.messages.append(relayed_message(self._collection, self._queue, job.body, job.items, enqueued_at))

    def _letter(self, row: OutboxRow, rule: str) -> DeadLetter:
        return DeadLetter(
            collection=self._collection,
            lane=self._lane,
            cause="text",
            code=rule,
            item_id=row.id[:MAX_ID_LENGTH],
            version=row.version,
            source=row.source,
            payload=_payload(row),
        )


class _Packing:
    """Jobs of one source, each with the time of its oldest row."""

    def __init__(self, collection: str, source: str | None) -> None:
        self._packer = Packer(collection, source)
        self._oldest = inf

    def add(self, row: OutboxRow) -> tuple[PackedJob, float] | None:
        full = self._packer.add(row.id, _encoded(row))
        job = None if full is None else (full, self._oldest)
        self._oldest = min(row.moved_at, inf if job else self._oldest)
        return job

    def rest(self) -> tuple[PackedJob, float] | None:
        rest = self._packer.rest()
        return None if rest is None else (rest, self._oldest)


def _encoded(row: OutboxRow) -> bytes:
    """The row's item as JSON. Raises ``InvalidItem``."""
    if row.is_too_large:
        raise InvalidItem(row.id[:MAX_ID_LENGTH], _TOO_LARGE, "it is larger than a message may be")
    item = read_item(Item(row.id, row.text, row.version, _metadata(row), row.is_delete))
    check_item(item, "given")
    return encode_item(item)


def _metadata(row: OutboxRow) -> dict[str, object] | None:
    """Whatever JSON it is: ``read_item`` refuses what is no object."""
    if row.metadata is None:
        return None
    try:
        metadata: dict[str, object] | None = msgspec.json.decode(row.metadata)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidItem(
            row.id[:MAX_ID_LENGTH], "metadata_too_deep", "its metadata cannot be read"
        ) from None
    return metadata


def _payload(row: OutboxRow) -> str:
    """What is kept of an item that breaks the contract; a text or metadata that no message holds is not.

    By hand, as its metadata may be what no ``Item`` can have.
    """
    fields: dict[str, object] = {"id": row.id, "version": row.version}
    if row.text is not None:
        fields["text"] = row.text
    if row.metadata is not None:
        fields["metadata"] = msgspec.Raw(row.metadata.encode())
    if row.is_delete:
        fields["deleted"] = True
    return msgspec.json.encode(fields).decode()
