"""The pool class of the worker.

Celery hands it messages, it hands their content to the engine, and reports back.

No thread waits for an API. Celery keeps messages, acknowledgements, events and revokes; its tracer is
bypassed, so that task signals, result stores and chains do not apply to these tasks.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state

from embedq_worker import endings
from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.engine import Engine
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.engine.monitoring.queue_labels import labels_of
from embedq_worker.engine.summary import Summary
from embedq_worker.intake.desk import DESK
from embedq_worker.intake.heartbeat import DEATHS, Heartbeat
from embedq_worker.intake.reporter import Reporter
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics.items import IN_HAND
from embedq_worker.metrics.sampled import Values

logger = get_logger(__name__)

Completion = Callable[[], None]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_SWITCH_INTERVAL = 0.001
"""Seconds after which a thread that holds the interpreter lets another have it. At Python's 0.005 the engine
waits that long for the busy hub at every read of an answer: 13 % fewer single-item messages a second."""
_COLLECT_AFTER = (20_000, 20, 20)
"""Objects made, and rounds of the younger generation, after which Python looks for cycles. By its default of
700 it goes through the messages in hand, none of them garbage, many times a second."""


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
        self._changed = threading.Event()
        """There are completions, or no more is to be waited for."""
        self._is_stopping = False
        self._is_hurried = False
        self._is_untold = False
        self._tell: Callable[[], None] = _tell_nobody
        heartbeat = Heartbeat(
            self._settings.broker_url,
            DESK.process,
            self._settings.worker.message_lease,
            key_prefix=self._settings.key_prefix,
            on_taken_over=self._release,
        )
        reporter = Reporter(self._settings.broker_url, DESK, key_prefix=self._settings.key_prefix)
        self._pulse = Pulse()
        self._engine = Engine(
            self._settings,
            hub=self._pulse,
            on_queues=self._queues_changed,
            on_budgets=partial(self._complete, DESK.isolation.wake),
            on_failed=_end_worker,
            chores=[heartbeat.run, reporter.run],
            may_call=lambda: heartbeat.is_alive,
        )
        IN_HAND.follow(self._in_hand)
        DESK.release, DESK.hurry, DESK.bury_killer = self._release, heartbeat.hurry, self._bury_killer
        DESK.is_held = self._engine.is_held

    def on_start(self) -> None:
        """Start the engine."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        self._engine.start()

    def start(self) -> None:
        """Start; Celery's own debug line for each message is left out, since it shows the text."""
        super().start()
        self._does_debug = False

    def register_with_event_loop(self, loop: Any) -> None:
        """The hub on whose thread completions run."""
        self._hub = loop
        loop.call_repeatedly(1.0, self._pulse.beat)  # ended with the connection, and begun with the next one

    def follow_queues(
        self, follow: Callable[[frozenset[str]], None], tell: Callable[[], None] | None = None
    ) -> None:
        """Call ``follow`` on the hub's thread with the queues to consume, now and whenever they change.

        ``tell`` says to Redis what is done and what goes back, while the hub does not turn.
        """
        self._on_queues = follow
        self._tell = tell or _tell_nobody
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
                finish=lambda summary: self._complete(partial(endings.end, message.delivery_tag, summary)),
                not_a_job=code,
            )
        )

    def on_stop(self) -> None:
        """Give back what waits, let calls in flight end and be stored; a second signal ends the waiting.

        Completions run here: the hub no longer turns.
        """
        self._is_stopping = True
        sentence = "the worker stops: what waits goes back, calls in flight have {seconds:g} s to end"
        logger.info("worker_stops", sentence, seconds=self._settings.worker.drain_time)
        handlers = {number: signal.signal(number, self._hurry) for number in _SIGNALS} if _is_main() else {}
        drained = self._engine.drain()
        drained.add_done_callback(lambda _: self._changed.set())
        self._wait_for(drained, monotonic() + self._settings.worker.drain_time)
        self._engine.stop()
        self._report_all()
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def on_terminate(self) -> None:
        """The hard way: nothing is waited for, and what is not done is given back."""
        self._engine.stop()
        self._report_all()

    def _wait_for(self, drained: Future[None], deadline: float) -> None:
        while not (drained.done() or self._is_hurried or monotonic() > deadline):
            self._changed.wait(max(0.0, deadline - monotonic()))
            self._changed.clear()
            self._report_all()

    def _hurry(self, *_: object) -> None:
        self._is_hurried = True
        self._changed.set()

    def _report_all(self) -> None:
        """Run the completions and tell Redis; where it cannot be told, the channel tries again at its end."""
        self._run_completions()
        try:
            self._tell()
        except Exception as error:
            if not self._is_untold:
                sentence = "Redis could not be told what is done ({error})"
                logger.warning("not_acknowledged", sentence, error=type(error).__name__)
            self._is_untold = True

    def _release(self) -> None:
        """Have what waits in the engine come back as given back. From any thread."""
        self._engine.release()

    def _bury_killer(self, tag: str, queue: str, message: bytes) -> None:
        """Make a dead letter of a message that kills its workers; it is not looked into."""
        self._engine.submit(
            Delivery(
                task_id="",
                queue=queue,
                payload=message,
                headers={},
                finish=lambda summary: self._complete(partial(endings.end, tag, summary)),
                not_a_job="killed_its_worker",
                cause="killer",
                attempts=DEATHS,  # or more
            )
        )

    def _queues_changed(self, queues: frozenset[str]) -> None:
        """Called on the engine's thread."""
        self.queues = queues
        if self._on_queues is not None:
            self._complete(partial(self._on_queues, queues))

    def _finished(self, tag: str, callback: Any, started: float, summary: Summary) -> None:
        """Called on the engine's thread, after the commit."""
        self._complete(partial(endings.report, tag, callback, monotonic() - started, summary))

    def _complete(self, completion: Completion) -> None:
        """Have something run on the hub's thread.

        It is kept here and the hub only poked, so that a stopped hub loses none.
        """
        self._completions.append(completion)
        if self._is_stopping:
            self._changed.set()
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
                logger.error("completion_failed", "a completion failed: {error}", **failure(error))

    def _in_hand(self) -> Values:
        """Messages in hand by collection and lane, of all that is consumed. From any thread."""
        loads = {**dict.fromkeys(self.queues, (0, 0)), **DESK.in_hand.loads}
        return {labels_of(queue): messages for queue, (messages, _) in loads.items()}

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "messages-in-hand": len(DESK.in_hand), "queues": sorted(self.queues)}


def _end_worker() -> None:
    """Have the hub end the worker at its next turn, with an exit code that says so. From any thread."""
    state.should_stop = os.EX_SOFTWARE


def _tell_nobody() -> None:
    """Until there is a connection."""


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _count_items(payload: object) -> int:
    job = payload.get("job") if isinstance(payload, dict) else None
    items = job.get("items") if isinstance(job, dict) else None
    return len(items) if isinstance(items, list) else 1
