"""What Flower hears of workers: without texts, from a worker's first moment, and again after an outage."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.events import EventReceiver
from flower.events import Events, EventsState
from tornado.ioloop import IOLoop

from embedq_worker.flower.counts import counts_only
from embedq_worker.logs import get_logger

logger = get_logger(__name__)

AGAIN = 2.0
"""Seconds until a broker that went away is tried again. Flower itself doubles its wait, without an end."""


class State(EventsState):
    """Tasks and workers in memory."""

    def event(self, event: dict[str, Any]) -> None:
        """Take one event."""
        super().event(counts_only(event) if event["type"].startswith("task-") else event)


class FleetEvents(Events):
    """Receives events in a thread of its own, and asks workers for them.

    ``joined`` is told the name of each worker that is new.
    """

    def __init__(
        self, capp: Celery, io_loop: IOLoop, *, tasks: int, workers: int, joined: Callable[[str], None]
    ) -> None:
        super().__init__(capp, io_loop, max_tasks_in_memory=tasks)
        self._joined = joined
        self.state = State(
            max_tasks_in_memory=tasks, max_workers_in_memory=workers, on_node_join=self._worker_joined
        )

    def start(self) -> None:
        """Ask at once: the timer's first turn comes after five seconds."""
        super().start()
        self.io_loop.add_callback(self.on_enable_events)

    def run(self) -> None:
        """Receive for ever."""
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as error:
                sentence = (
                    "Flower hears no events from the broker ({error}), trying again; check that Redis runs "
                    "and can be reached"
                )
                logger.warning("events_unheard", sentence, error=type(error).__name__)
                time.sleep(AGAIN)

    def _worker_joined(self, worker: Any) -> None:
        self.io_loop.add_callback(self.on_enable_events)
        self._joined(worker.hostname)
