"""The filling of a collection's shadow as `embedq collection migrate` steers it: which rows are enqueued, and
when that was enough.

The rows that lack a vector are gone through in passes, in the order of their ids; how far one has come is in
the database, so that who runs it again goes on from there. What a pass leaves (a row that a worker stored
without the vector meanwhile) is the next one's. Where passes change nothing any more, the rest is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from math import inf
from typing import NamedTuple

from psycopg import sql

from embedq.broker import Broker
from embedq.contract import MAX_ITEMS
from embedq_sql import statement, template
from embedq_worker.store.collection import Collection
from embedq_worker.store.fleet.backlog import lane_waiting
from embedq_worker.store.moving.fill_message import Fill, fill_message
from embedq_worker.store.moving.successor_unfilled import count_unfilled
from embedq_worker.store.postgres.connections import Connection, store_errors

_MESSAGE_BYTES = 1 << 20
"""Bytes of the texts that a message names: what a worker holds of them, as with a job."""
_MOST_QUEUED = 64
"""Messages of the lane that are queued at a time: workers always have some, and stopping leaves few."""
_LOOK_EVERY = 0.25
_COUNT_SHARE = 10
"""So many times as long as a count of the rows that are left took, no other is made."""
_NO_ROOM = 15.0
"""Seconds for which the lane may be full before that is said."""
_VAIN_PASSES = 2
"""Passes on end that change nothing."""
_YOUNG = 3.0
"""Seconds for which a row without a vector is left to the worker that stored it."""
_NO_PROGRESS = 60.0
"""Seconds without a filled row after which a pass is given up; the lane may have much else to do."""


class Filled(NamedTuple):
    """What came of filling."""

    filled: int
    left: int
    """Rows that lack a vector still."""


class Filling:
    """Fills the shadow of one collection. ``rate`` in rows a second; None: as fast as workers take them.

    ``say`` is told what somebody who waits should know.
    """

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        collection: Collection,
        *,
        key_prefix: str = "",
        rate: float | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        assert collection.shadow is not None
        self._connection = connection
        self._broker = broker
        self._collection = collection
        self._generation = collection.shadow.generation
        self._prefix = key_prefix
        self._rate = rate
        self._say = say
        self._left = 0
        self._count_at = -inf
        self._since: datetime | None = None
        """By the database's clock: what the new model has refused since is not asked for again."""
        self._named = {"collection_id": collection.id, "generation": self._generation}
        column = sql.Identifier(collection.shadow.column_name)
        self._page = sql.SQL(template("list_unfilled")).format(table=collection.table, shadow=column)

    def run(self, advance: Callable[[int], None]) -> Filled:
        """Fill until no row is left, or passes change nothing; ``advance`` is told how many are done.

        Raises ``StoreError`` and ``BrokerUnavailable``.
        """
        before = left = self._count()
        with store_errors("when the filling starts was not read"):
            (self._since,) = self._connection.execute(statement("filling_starts")).fetchone() or (None,)
        vain = 0
        while left and vain < _VAIN_PASSES:
            at_start = left
            left = self._pass(before, advance)
            vain = 0 if left < at_start else vain + 1
            if vain:
                left = self._wait_for_young(before, left, advance)
        return Filled(max(0, before - left), left)

    def _pass(self, before: int, advance: Callable[[int], None]) -> int:
        due = time.monotonic()
        for ids in self._messages():
            self._wait_for_room()
            due = max(due, time.monotonic()) + (len(ids) / self._rate if self._rate else 0)
            fill = Fill(1, self._collection.name, self._generation, ids)
            self._broker.publish([fill_message(fill, time.time())])
            self._note(ids[-1])
            advance(before - self._count_now_and_then())
            time.sleep(max(0.0, due - time.monotonic()))
        left = self._wait_for_rows(before, advance)
        self._note(None)
        return left

    def _messages(self) -> Iterator[list[str]]:
        """The ids of a message each, from where the pass is."""
        with store_errors("how far the filling is was not read"):
            row = self._connection.execute(statement("fill_position"), self._named).fetchone()
        after = row[0] if row else None
        while page := self._next_page(after):
            message: list[str] = []
            size = 0
            for item_id, length in page:
                if message and size + length > _MESSAGE_BYTES:
                    break
                message.append(item_id)
                size += length
            yield message
            after = message[-1]

    def _next_page(self, after: str | None) -> list[tuple[str, int]]:
        named = {
            "after": after,
            "limit": MAX_ITEMS,
            "young": _YOUNG,
            "collection": self._collection.name,
            "since": self._since,
        }
        with store_errors(f"the rows of collection {self._collection.name!r} were not read"):
            # Planned anew: a plan for any place would begin at the first row each time.
            found = self._connection.execute(self._page, named, prepare=False)
            return [(str(item_id), int(size)) for item_id, size in found]

    def _wait_for_room(self) -> None:
        say_at = time.monotonic() + _NO_ROOM
        while self._waiting()[0] >= _MOST_QUEUED:
            if time.monotonic() > say_at:
                self._say(
                    f"lane bulk of {self._collection.name} has been full for {_NO_ROOM:.0f} s: look whether "
                    "workers run and take it (`embedq status`); waiting"
                )
                say_at = inf
            time.sleep(_LOOK_EVERY)

    def _wait_for_rows(self, before: int, advance: Callable[[int], None]) -> int:
        """All is enqueued: until it is filled, or nothing of the lane is under way, or nothing changes."""
        left = self._count()
        changed = time.monotonic()
        while left and any(self._waiting()) and time.monotonic() - changed < _NO_PROGRESS:
            time.sleep(_LOOK_EVERY)
            now = self._count_now_and_then()
            if now != left:
                left, changed = now, time.monotonic()
                advance(before - left)
        return self._count()

    def _wait_for_young(self, before: int, left: int, advance: Callable[[int], None]) -> int:
        """Rows that are being written may have their vectors in a moment."""
        until = time.monotonic() + _YOUNG
        while left and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
            left = self._count_now_and_then()
            advance(before - left)
        return self._count()

    def _count_now_and_then(self) -> int:
        """Of many rows a count takes long: rows that are left, as of some time ago."""
        return self._count() if time.monotonic() >= self._count_at else self._left

    def _count(self) -> int:
        began = time.monotonic()
        self._left = count_unfilled(self._connection, self._collection)
        took = time.monotonic() - began
        self._count_at = began + took + _COUNT_SHARE * took
        return self._left

    def _waiting(self) -> tuple[int, int]:
        name = self._collection.name
        return self._broker.call(lambda client: lane_waiting(client, name, "bulk", self._prefix))

    def _note(self, filled_to: str | None) -> None:
        with store_errors("how far the filling is was not noted"):
            self._connection.execute(statement("note_filled_to"), {**self._named, "filled_to": filled_to})
