"""The worker's Celery application.

``celery -A embedq_worker.app worker`` works, ``embedq worker`` starts it with less typing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import celery.apps.worker
from celery import Celery
from celery.signals import setup_logging
from kombu import Queue

from embedq_worker import tasks
from embedq_worker.intake.desk import DESK
from embedq_worker.intake.governor import Window
from embedq_worker.logs.form import Form
from embedq_worker.logs.setup import set_up_logs
from embedq_worker.settings import Settings
from embedq_worker.store.postgres.connections import parse_url

DEFAULT_QUEUE = "embedq:default"
"""Consumed even without collections. A colon, so that no collection's queue can have the name."""


class WorkerApp(Celery):
    """A Celery application with the worker's settings."""

    settings: Settings


def create_app(settings: Settings) -> WorkerApp:
    """The application of a worker with these settings.

    Raises ``ConfigurationError`` for a database's URL that cannot be one: the engine's thread, which
    connects, could tell nobody.
    """
    parse_url(settings.database_url)
    app = WorkerApp("embedq", set_as_current=False, autofinalize=True)
    app.settings = settings
    app.conf.update(
        broker_url=settings.broker_url,
        broker_transport="embedq_worker.intake.transport:Transport",
        broker_transport_options={
            "global_keyprefix": settings.key_prefix,
            "priority_steps": [0],
            "socket_connect_timeout": 5,
            # A server that says nothing is given up after as long, also where a fetch waits for its answer
            # (after twice the interval): ten seconds after it is back messages are to be fetched again.
            "socket_timeout": 4,
            "socket_keepalive": True,
            "health_check_interval": 2,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a server that refuses a command gets over it
        worker_pool="embedq_worker.pool:EnginePool",
        worker_consumer="embedq_worker.intake.consumer:Consumer",
        # Plain `celery worker` would hold as many messages as there are cores.
        worker_concurrency=settings.worker.in_hand,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,  # the governor gives the room
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_redirect_stdouts=False,
        task_default_queue=DEFAULT_QUEUE,
        task_queues=[Queue(DEFAULT_QUEUE, routing_key=DEFAULT_QUEUE, no_declare=True)],
        task_create_missing_queues=False,
        task_acks_late=True,
        task_ignore_result=True,
        task_serializer="json",
        result_accept_content=["json"],
        accept_content=["json"],
        worker_send_task_events=False,  # a monitor that asks gets them
    )
    setup_logging.connect(partial(_set_up_logs, settings.log_format), weak=False, dispatch_uid="embedq")
    tasks.register(app)
    DESK.open(
        Window(
            messages=settings.worker.in_hand,
            items=settings.worker.window_items,
            size=settings.worker.window_bytes,
        )
    )
    return app


def _set_up_logs(form: Form, *, loglevel: int | str, logfile: str | None, **_: Any) -> None:
    """A receiver of Celery's signal ``setup_logging``: with one, Celery installs no handlers of its own."""
    set_up_logs(loglevel, form=form, file=logfile)
    if form == "json":
        celery.apps.worker.safe_say = lambda *_: None  # a line among the objects; the pool logs that it stops


def __getattr__(name: str) -> WorkerApp:
    """``app``, made from the environment when Celery asks for it."""
    if name != "app":
        raise AttributeError(name)
    app = create_app(Settings.from_environment())
    globals()["app"] = app
    return app
