"""The worker's own Celery consumer: what is not a job becomes a dead letter.

Stock Celery drops an unknown task, a message without headers and an undecodable body, and logs the body.
Here nothing is dropped, and no body is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from celery.worker import consumer as celery_consumer
from kombu import Queue

from embedq_worker.intake.desk import DESK
from embedq_worker.logs import get_logger
from embedq_worker.metrics.servers import REDIS_ERRORS
from embedq_worker.tasks import OWN_TASKS

logger = get_logger(__name__)

_KNOCK_EVERY = 4
"""Seconds between two attempts to connect, at most."""


class Consumer(celery_consumer.Consumer):
    """Named in ``worker_consumer`` of the worker's application."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's handler, but an exception out of one message's content buries that message alone."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                handle(message)
            except Exception as error:  # also a KeyError, which kombu counts among those of a connection
                self._bury(message, "unreadable", error)

        return on_task_received

    def update_strategies(self) -> None:
        """Only our own tasks run: whoever can push to a queue could otherwise call any registered one."""
        super().update_strategies()
        for name in set(self.strategies) - OWN_TASKS:
            del self.strategies[name]

    def on_unknown_message(self, body: object, message: Any) -> None:
        """A message without a task."""
        self._bury(message, "not_a_task")

    def on_unknown_task(self, body: object, message: Any, exc: Exception) -> None:
        """A task that is not ours."""
        self._bury(message, "unknown_task")

    def on_invalid_task(self, body: object, message: Any, exc: Exception) -> None:
        """A message whose headers or content type Celery refuses."""
        self._bury(message, "invalid_task", exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that cannot be decoded."""
        self._bury(message, "undecodable", exc)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, knocking at Redis every few seconds: Celery's own pauses grow to half a minute."""
        conn.ensure_connection = partial(_knock, conn.ensure_connection)
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection was lost: Celery says so and connects again."""
        REDIS_ERRORS.inc()
        super().on_connection_error_after_connected(exc)

    def on_ready(self) -> None:
        """Connected: consume what there is to consume."""
        super().on_ready()
        self.pool.follow_queues(self.follow, self._tell)

    def _tell(self) -> None:
        """Say to Redis what is done and what goes back."""
        if self.task_consumer is not None:
            self.task_consumer.channel.hands.tell()

    def follow(self, queues: frozenset[str]) -> None:
        """Consume exactly these queues and the default one: collections come and go while the worker runs."""
        if self.task_consumer is None:
            return
        followed = set(self.app.amqp.queues.consume_from) - {self.app.conf.task_default_queue}
        for queue in sorted(queues - followed):
            self.app.amqp.queues.select_add(Queue(queue, routing_key=queue, no_declare=True))
            self.add_task_queue(queue)
        for queue in sorted(followed - queues):
            self.cancel_task_queue(queue)
            self.app.amqp.queues.pop(queue, None)

    def stop(self) -> None:
        """Stop fetching before anything else stops."""
        DESK.governor.stop()
        super().stop()

    def _bury(self, message: Any, code: str, error: Exception | None = None) -> None:
        """Hand the message to the engine as a dead letter; it is acknowledged when that is committed."""
        queue = message.delivery_info.get("routing_key")
        logger.warning(
            "not_a_job",
            "a message of queue {queue} is not a job, it becomes a dead letter: {code}",
            queue=queue,
            code=code,
            error=None if error is None else type(error).__name__,
        )
        self.pool.bury(message, code)


def _knock(ensure: Callable[..., Any], complain: Callable[..., None], *arguments: Any, **options: Any) -> Any:
    """Kombu's ``ensure_connection``; of all failures it complains of the first, second, fourth, eighth …"""
    failures = count(1)

    def seldom(error: Exception, pause: float) -> None:
        if next(failures).bit_count() == 1:
            complain(error, pause)

    pauses = {"interval_start": 1, "interval_step": 1, "interval_max": _KNOCK_EVERY}
    return ensure(seldom, *arguments, **options, **pauses)
