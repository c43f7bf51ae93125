"""A load: the items of a source enqueued a stretch at a time, with a checkpoint behind each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from embedq.cli.progress import Advance
from embedq.cli.sources.checkpoint import Checkpoint
from embedq.cli.sources.source import Source
from embedq.contract import Lane
from embedq.errors import BrokerUnavailable, EmbedqError, QueueFull
from embedq.producer import Producer
from embedq.wording import counted

STRETCH_ITEMS = 16_384
"""Items between two checkpoints: 64 full messages, which are one round trip. At most these are enqueued again
after a crash."""
STRETCH_SECONDS = 1.0
"""Seconds after which a slow stretch ends earlier."""
_REFRESH_ITEMS = 500


class Load:
    """One source on its way into one lane of a collection; ``enqueued`` counts what Redis has.

    A load that goes on begins with the counts of before.
    """

    def __init__(self, source: Source, collection: str, lane: Lane, checkpoint: Checkpoint | None) -> None:
        self.enqueued = 0
        self._source = source
        self._collection = collection
        self._lane = lane
        self._checkpoint = checkpoint
        self._items = iter(source)
        self._is_over = False
        self._break: EmbedqError | None = None

    def go_on(self) -> None:
        """Begin where the checkpoint is. Raises ``EmbedqError`` where there is none that holds."""
        assert self._checkpoint is not None
        reached = self._checkpoint.read()
        self._source.go_to(reached.position)
        self.enqueued, self._source.bad.count = reached.enqueued, reached.bad

    def run(self, producer: Producer, advance: Advance) -> None:
        """Enqueue what is left. Raises ``EmbedqError`` with how far it came, after Ctrl-C too."""
        try:
            while not self._is_over:
                self._stretch(producer, advance)
        except (BrokerUnavailable, QueueFull) as error:
            self.enqueued += error.enqueued
            raise EmbedqError(f"{error}; {self._standing()}") from error
        except EmbedqError as error:
            if not self.enqueued:
                raise
            raise EmbedqError(f"{error}; {self._standing()}") from error
        except KeyboardInterrupt:
            raise EmbedqError(f"interrupted; {self._standing()}") from None
        if self._checkpoint is not None:
            self._checkpoint.remove()

    def _stretch(self, producer: Producer, advance: Advance) -> None:
        items = self._next_items(advance)
        reject = self._source.reject
        self.enqueued += producer.enqueue_many(self._collection, items, self._lane, on_invalid=reject)
        position = self._source.position
        if self._checkpoint is not None and position is not None:
            self._checkpoint.write(position, self.enqueued, self._source.bad.count)
        if self._break is not None:
            raise self._break

    def _next_items(self, advance: Advance) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + STRETCH_SECONDS
        for number in range(STRETCH_ITEMS):
            item = self._next_item()
            if item is None:
                self._is_over = True
                return
            if number % _REFRESH_ITEMS == 0:
                advance(self._source.done)
            yield item
            if time.monotonic() > end:
                return

    def _next_item(self) -> dict[str, Any] | None:
        """None at the end, and where the source breaks off, which is raised after what came before it."""
        try:
            return next(self._items, None)
        except EmbedqError as error:
            self._break = error
            return None

    def _standing(self) -> str:
        source = self._source
        more = "; --resume goes on with it" if self._checkpoint is not None else ""
        return (
            f"{counted(self.enqueued, 'item')} enqueued when {source.unit} {source.place} had been read{more}"
        )
