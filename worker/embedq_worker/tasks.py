"""The tasks that a worker serves, and their requests as monitors see them.

No task has a body that runs in a thread: ``EnginePool`` hands their messages to the engine.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import Celery
from celery.worker.request import Request

from embedq.contract import EMBED_TASK, QUERY_TASK, Lane, queue_parts
from embedq_worker.store.moving.fill_message import FILL_TASK

OWN_TASKS = frozenset({EMBED_TASK, QUERY_TASK, FILL_TASK})


class CountsOnly(Request):
    """A request that shows counts, never texts, to ``inspect``, events and logs, whoever sent it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not the header ``shadow``: clients without one get a row of their collection too, and strangers may
        # write anything there.
        self.name = f"{self._type}:{self._collection_and_lane[0]}"

    @property
    def argsrepr(self) -> str:
        """Jobs have no positional arguments."""
        return "()"

    @property
    def kwargsrepr(self) -> str:
        """The collection and lane of its queue, and how much it carries."""
        collection, lane = self._collection_and_lane
        shown = {"collection": collection, "lane": lane, **_counts(self.kwargs)}
        return repr(shown)

    @property
    def _collection_and_lane(self) -> tuple[str, Lane]:
        return queue_parts(str(self.delivery_info["routing_key"]))

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What ``inspect active`` prints: always the safe form."""
        return dict(super().info(safe=True), args=self.argsrepr, kwargs=self.kwargsrepr)


def _counts(kwargs: object) -> dict[str, int]:
    """Items and their characters; whatever is in the place of a job counts as one item."""
    job = kwargs.get("job", kwargs) if isinstance(kwargs, dict) else {}
    items = job.get("items") if isinstance(job, dict) else None
    texts = [_text(each) for each in items] if isinstance(items, list) else [_text(job)]
    return {"items": len(texts), "characters": sum(map(len, texts))}


def _text(item: object) -> str:
    """The text of an item or a query."""
    text = item.get("text") if isinstance(item, dict) else None
    return text if isinstance(text, str) else ""


def register(app: Celery) -> None:
    """Register the worker's tasks on ``app``."""
    for name in sorted(OWN_TASKS):
        app.task(_runs_in_the_engine, name=name, Request=CountsOnly, shared=False)


def _runs_in_the_engine(**_: object) -> NoReturn:
    raise RuntimeError(
        "this task runs in embedq_worker.pool:EnginePool only; start the worker with `embedq worker`"
    )
