"""Endings: what Celery and Redis are told of a message that is done, or goes back. On the hub's thread."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import Reject

from embedq_worker.engine.summary import Summary, causes
from embedq_worker.engine.work import Outcome
from embedq_worker.errors import AllItemsDead
from embedq_worker.intake.desk import DESK


def report(tag: str, callback: Any, runtime: float, summary: Summary) -> None:
    """Tell Celery what became of a job.

    The acknowledgement is ours: Celery would send it through its hub, which no longer turns when a worker
    stops, and twice the work when it does.
    """
    request = callback.__self__
    request.acknowledged = True
    is_back = Outcome.WITHDRAWN in summary
    try:
        if is_back:
            callback((1, _information(Reject("given back", requeue=True)), runtime))
            request.send_event("task-rejected", requeue=True)
        elif summary.get("dead") == summary["items"]:
            callback((1, _information(_all_dead(summary)), runtime))
        else:
            callback((0, summary, runtime))
    finally:
        end(tag, summary)


def end(tag: str, summary: Summary) -> None:
    """A message is done, or goes back."""
    if Outcome.WITHDRAWN in summary:
        DESK.in_hand.give_back(tag)
    else:
        DESK.tally.add(DESK.in_hand.queue_of(tag), summary["items"])
        DESK.in_hand.settle(tag)


def _all_dead(summary: Summary) -> AllItemsDead:
    items = summary["items"]
    what = f"all {items} items are dead letters" if items > 1 else "the item is a dead letter"
    return AllItemsDead(f"{what} ({causes(summary)}); see `embedq dead-letters list`")


def _information(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        information = ExceptionInfo()
        information.exception = error  # billiard wraps it for pickling, and monitors would show the wrapper
        return information
