"""Replay: dead letters go back to the queues of their collections.

A batch of letters is locked, enqueued, and deleted once Redis has it, in one transaction. A crash in between
leaves letters of items that are queued as well: replayed again they cost nothing, since the ledger finds
them unchanged. The other order could lose them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
from psycopg.rows import kwargs_row

from embedq.broker import Broker
from embedq.clock import BrokerClock
from embedq.contract import Item, Lane, Versions
from embedq.errors import InvalidItem
from embedq.items import encode_item
from embedq.messages import Message
from embedq.outgoing import Outgoing
from embedq.packing import Packer
from embedq_sql import statement
from embedq_worker.errors import NotReplayable
from embedq_worker.store.collections import list_collections
from embedq_worker.store.dead_letters.letters import Letter, as_new
from embedq_worker.store.dead_letters.listing import Choice
from embedq_worker.store.postgres.connections import Connection, store_errors

_UNDONE = "the dead letters of this batch were not replayed"


@dataclass(slots=True)
class Replayed:
    """What became of one batch."""

    enqueued: list[int] = field(default_factory=list)
    """Numbers of letters that are queued again, and are no letters any more."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    """Numbers of letters that stay, each with the reason."""
    items: int = 0
    """Items that are queued again; a job's message has several, a raw message counts as one."""

    def __len__(self) -> int:
        return len(self.enqueued) + len(self.refused)


class Replay:
    """Replays the chosen letters up to the number ``last``, at most ``at_once`` of them in a batch.

    Letters that arise meanwhile have higher numbers: an item that dies again is not replayed for ever.
    ``lane`` overrides the lane that they came by.
    """

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        choice: Choice,
        *,
        last: int,
        at_once: int,
        lane: Lane | None = None,
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._wanted = {**choice.parameters(), "last": last, "limit": at_once}
        self._lane = lane
        self._clock = BrokerClock()

    def batches(self) -> Iterator[Replayed]:
        """Replay batch after batch; each that is yielded is committed.

        Raises ``StoreError`` and ``BrokerUnavailable``; the letters of that batch stay.
        """
        known: Mapping[str, Versions] = {
            each.name: each.versions for each in list_collections(self._connection)
        }
        self._broker.run(self._clock.measure())
        after = 0
        while True:
            after, done = self._replay_after(after, known)
            if not done:
                return
            yield done

    def _replay_after(self, after: int, known: Mapping[str, Versions]) -> tuple[int, Replayed]:
        done = Replayed()
        streams = _Streams(self._broker, self._clock)
        with (
            store_errors(_UNDONE),
            self._connection.transaction(),
            closing(self._claim(after)) as letters,
        ):
            for letter in letters:
                after = letter.number
                try:
                    done.items += self._enqueue(letter, known, streams)
                except (NotReplayable, InvalidItem) as error:
                    done.refused.append((letter.number, str(error)))
                else:
                    done.enqueued.append(letter.number)
            streams.finish()
            self._connection.execute(statement("settle_letters"), {"numbers": done.enqueued})
        return after, done

    def _enqueue(self, letter: Letter, known: Mapping[str, Versions], streams: _Streams) -> int:
        lane = self._lane or ("bulk" if letter.lane == "bulk" else "live")
        return streams.add(letter, as_new(letter, known, lane), lane)

    def _claim(self, after: int) -> Generator[Letter, None, None]:
        """Lock the next letters; one text at a time is in memory, besides what waits to be sent."""
        with self._connection.cursor(row_factory=kwargs_row(_letter)) as cursor:
            yield from cursor.stream(statement("claim_letters"), {**self._wanted, "after": after})


class _Streams:
    """The producer's streams of one batch: one for each collection, lane and source."""

    def __init__(self, broker: Broker, clock: BrokerClock) -> None:
        self._broker = broker
        self._clock = clock
        self._streams: dict[tuple[str, Lane, str | None], Outgoing] = {}

    def add(self, letter: Letter, what: Item | Message, lane: Lane) -> int:
        """Enqueue an item or a message; returns how many items.

        An item may wait until its message is full.
        """
        if isinstance(what, Message):
            self._broker.publish([what])
            return what.items
        stream = self._stream(letter, lane)
        if stream.add(what.id, encode_item(what)):
            self._broker.run(stream.publish())
        return 1

    def finish(self) -> None:
        """Publish what waits; when it returns, Redis has everything."""
        for stream in self._streams.values():
            self._broker.run(stream.finish())

    def _stream(self, letter: Letter, lane: Lane) -> Outgoing:
        collection = letter.collection or ""
        key = collection, lane, letter.source
        if key not in self._streams:
            packer = Packer(collection, letter.source)
            prefix = self._broker.key("")
            self._streams[key] = Outgoing(self._clock, packer, collection, lane, prefix=prefix)
        return self._streams[key]


def _letter(**fields: object) -> Letter:
    return msgspec.convert(fields, Letter)
