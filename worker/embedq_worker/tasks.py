"""The tasks that a worker serves, and their requests as monitors see them.

No task has a body that runs in a thread: ``EnginePool`` hands their messages to the engine.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import Celery
from celery.worker.request import Request

from embedq.contract import EMBED_TASK, QUERY_TASK
from embedq_worker.store.fill_message import FILL_TASK

OWN_TASKS = frozenset({EMBED_TASK, QUERY_TASK, FILL_TASK})


class CountsOnly(Request):
    """A request that shows counts, never texts, to ``inspect``, events and logs, whoever sent it."""

    @property
    def argsrepr(self) -> str:
        """Jobs have no positional arguments."""
        return "()"

    @property
    def kwargsrepr(self) -> str:
        """The collection and the number of items."""
        job = self.kwargs.get("job", self.kwargs) if isinstance(self.kwargs, dict) else {}
        job = job if isinstance(job, dict) else {}
        items = job.get("items")
        count = len(items) if isinstance(items, list) else 1
        return f"{{'collection': {str(job.get('collection'))[:48]!r}, 'items': {count}}}"

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What ``inspect active`` prints: always the safe form."""
        return dict(super().info(safe=True), args=self.argsrepr, kwargs=self.kwargsrepr)


def register(app: Celery) -> None:
    """Register the worker's tasks on ``app``."""
    for name in sorted(OWN_TASKS):
        app.task(_runs_in_the_engine, name=name, Request=CountsOnly, shared=False)


def _runs_in_the_engine(**_: object) -> NoReturn:
    raise RuntimeError(
        "this task runs in embedq_worker.pool:EnginePool only; start the worker with `embedq worker`"
    )
