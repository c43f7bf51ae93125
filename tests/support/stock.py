"""The worker over kombu's own Redis transport, by a change of the running process; the rest is the same.

For comparison, see ``tests.support.changed``. Its records have the names of ours, so that what waits for a
worker's messages waits for these too.
"""

from __future__ import annotations

import os
from typing import Any

from embedq_worker import app, endings
from embedq_worker.app import WorkerApp
from embedq_worker.engine.summary import Summary
from embedq_worker.settings import Settings

VISIBILITY_VARIABLE = "STOCK_VISIBILITY_TIMEOUT"
"""Environment variable: seconds after which kombu hands out a message again, and looks each second for any.

Default: kombu's hour, and its looks.
"""
_KEYS = {
    "unacked_key": "embedq:unacked",
    "unacked_index_key": "embedq:unacked_index",
    "unacked_mutex_key": "embedq:unacked_mutex",
}
_QUICK_LOOKS = {
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "unacked_restore_limit": 1000,
}
_create_app = app.create_app


def use() -> None:
    """Fetch with BRPOP and record afterwards, as every Celery worker does."""
    app.create_app = create_app
    endings.report = _report


def create_app(settings: Settings) -> WorkerApp:
    """The worker's application with the transport ``redis``."""
    made = _create_app(settings)
    made.conf.broker_transport = "redis"
    made.conf.broker_transport_options |= _KEYS
    if VISIBILITY_VARIABLE in os.environ:
        seconds = float(os.environ[VISIBILITY_VARIABLE])
        made.conf.broker_transport_options |= {"visibility_timeout": seconds, **_QUICK_LOOKS}
    return made


def _report(tag: str, callback: Any, runtime: float, summary: Summary) -> None:  # noqa: ARG001  # as there
    """Celery acknowledges by itself: nothing of ours knows of the message."""
    callback((0, summary, runtime))
