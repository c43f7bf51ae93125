"""The pool class of the worker.

Celery hands it messages, it hands their content to the engine, and reports back.

No thread waits for an API. Celery keeps messages, acknowledgements, events and revokes; its tracer is
bypassed, so that task signals, result stores and chains do not apply to these tasks.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool

from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.engine import Engine
from embedq_worker.engine.steady import described
from embedq_worker.engine.work import Summary
from embedq_worker.errors import AllItemsDead
from embedq_worker.intake.desk import DESK

logger = logging.getLogger(__name__)

Completion = Callable[[], None]

_SWITCH_INTERVAL = 0.001
"""Seconds after which a thread that holds the interpreter lets another have it. At Python's 0.005 the engine
waits that long for the busy hub at every read of an answer: 13 % fewer single-item messages a second."""


class EnginePool(BasePool):
    """Named in ``worker_pool`` of the worker's application."""

    body_can_be_buffer = True
    signal_safe = False
    task_join_will_block = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = self.app.settings
        self._hub: Any = None
        self._completions: deque[Completion] = deque()
        self._poked = False
        self._on_queues: Callable[[frozenset[str]], None] | None = None
        self.queues: frozenset[str] = frozenset()
        """The queues to consume, as the engine last said."""
        self._engine = Engine(self._settings, on_queues=self._queues_changed)

    def on_start(self) -> None:
        """Start the engine."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._engine.start()

    def start(self) -> None:
        """Start; Celery's own debug line for each message is left out, since it shows the text."""
        super().start()
        self._does_debug = False

    def register_with_event_loop(self, loop: Any) -> None:
        """The hub on whose thread completions run."""
        self._hub = loop

    def follow_queues(self, follow: Callable[[frozenset[str]], None]) -> None:
        """Call ``follow`` on the hub's thread with the queues to consume, now and whenever they change."""
        self._on_queues = follow
        follow(self.queues)

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> None:
        """Take a message: accept it at once, its items are the engine's now."""
        task_id, request = args[1], args[2]
        accept_callback(os.getpid(), monotonic())
        tag = request["properties"]["delivery_tag"]
        payload = request["kwargs"]
        DESK.record(tag, _count_items(payload))
        self._engine.submit(
            Delivery(
                task_id=task_id,
                queue=request["delivery_info"]["routing_key"],
                payload=payload,
                headers=request,
                finish=partial(self._finished, tag, callback, monotonic()),
            )
        )

    def bury(self, message: Any, code: str) -> None:
        """Make a dead letter of a message that is not a job, and acknowledge it when that is committed."""
        self._engine.submit(
            Delivery(
                task_id="",
                queue=message.delivery_info.get("routing_key") or "",
                payload=message.body,
                headers={},
                finish=lambda _: self._complete(partial(DESK.in_hand.settle, message.delivery_tag)),
                not_a_job=code,
            )
        )

    def on_stop(self) -> None:
        """Let calls in flight end and be stored; run the completions here: the hub no longer turns."""
        self._engine.drain(self._settings.worker.drain_time)
        self._run_completions()
        self._engine.stop()
        self._run_completions()

    def on_terminate(self) -> None:
        """The hard way: nothing is waited for; what is in hand stays recorded."""
        self._engine.stop()

    def _queues_changed(self, queues: frozenset[str]) -> None:
        """Called on the engine's thread."""
        self.queues = queues
        if self._on_queues is not None:
            self._complete(partial(self._on_queues, queues))

    def _finished(self, tag: str, callback: Any, started: float, summary: Summary) -> None:
        """Called on the engine's thread, after the commit."""
        self._complete(partial(_report, tag, callback, monotonic() - started, summary))

    def _complete(self, completion: Completion) -> None:
        """Have something run on the hub's thread.

        It is kept here and the hub only poked, so that a stopped hub loses none.
        """
        self._completions.append(completion)
        if not self._poked and self._hub is not None:
            self._poked = True
            self._hub.call_soon(self._run_completions)

    def _run_completions(self) -> None:
        self._poked = False
        while self._completions:
            completion = self._completions.popleft()
            try:
                completion()
            except Exception as error:
                logger.error("a completion failed: %s", described(error))

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "messages-in-hand": len(DESK.in_hand), "queues": sorted(self.queues)}


def _report(tag: str, callback: Any, runtime: float, summary: Summary) -> None:
    """Tell Celery what became of a job.

    The acknowledgement is ours: Celery would send it through its hub, which no longer turns when a worker
    stops, and twice the work when it does.
    """
    callback.__self__.acknowledged = True
    try:
        if summary.get("dead") == summary["items"]:
            callback((1, _all_dead(summary), runtime))
        else:
            callback((0, summary, runtime))
    finally:
        DESK.in_hand.settle(tag)


def _all_dead(summary: Summary) -> ExceptionInfo:
    try:
        raise AllItemsDead(f"all {summary['items']} items are dead letters; see `embedq dead-letters list`")
    except AllItemsDead as error:
        information = ExceptionInfo()
        information.exception = error  # billiard wraps it for pickling, and monitors would show the wrapper
        return information


def _count_items(payload: object) -> int:
    job = payload.get("job") if isinstance(payload, dict) else None
    items = job.get("items") if isinstance(job, dict) else None
    return len(items) if isinstance(items, list) else 1
