"""What is kept of an event of a task: what our own workers say, which are counts.

Every Celery application on the same Redis sends its events to the same place, its arguments and results among
them, and an event names its task only once. So it is told by its form alone what may be shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from embedq.contract import queue_parts
from embedq_worker.engine.summary import OUTCOMES
from embedq_worker.tasks import OWN_TASKS

_OPEN = frozenset(
    [
        "type",
        "hostname",
        "uuid",
        "name",
        "timestamp",
        "local_received",
        "clock",
        "pid",
        "utcoffset",
        "queue",
        "exchange",
        "routing_key",
        "runtime",
        "expires",
        "requeue",
        "terminated",
        "expired",
        "signum",
    ]
)
"""Fields in which no application has its arguments or results."""
_ARGUMENTS = re.compile(
    r"\{'collection': '[a-z0-9_]{1,48}', 'lane': '[a-z]+', 'items': \d+, 'characters': \d+\}", re.ASCII
)
_CAUSE = r"[a-z_]{1,40}/[A-Za-z0-9_.-]{1,80}"
_COUNTS = re.compile(
    rf"items|{'|'.join(OUTCOMES)}|texts|cached|tokens|retries|milliseconds|dead: {_CAUSE}", re.ASCII
)
_ALL_DEAD = re.compile(
    rf"AllItemsDead\(['\"](all \d+ items are dead letters|the item is a dead letter) "
    rf"\((\d+ {_CAUSE}(, )?)+\); see `embedq dead-letters list`['\"]\)",
    re.ASCII,
)


def counts_only(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what is not of the form that our workers give it.

    ``task-sent`` of a strange client is named as workers name its job: it may come before the worker's events
    and after them.
    """
    known = {name: value for name, value in event.items() if name in _OPEN or _is_ours(name, value)}
    if "exception" in event and "exception" not in known:
        known["exception"] = _class_of(event["exception"])
    if event["type"] == "task-sent" and event.get("name") in OWN_TASKS:
        known["name"] = f"{event['name']}:{queue_parts(str(event.get('routing_key')))[0]}"
    return known


def _is_ours(field: str, value: object) -> bool:
    return field in _FORMS and _FORMS[field](value)


def _are_counts(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _COUNTS.fullmatch(name) and isinstance(count, int)
        for name, count in value.items()
    )


def _matches(form: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


_FORMS: dict[str, Callable[[object], bool]] = {
    "args": lambda value: value == "()",
    "kwargs": _matches(_ARGUMENTS),
    "result": _are_counts,
    "exception": _matches(_ALL_DEAD),
}
"""Of the fields that may hold anything: whether the value is one of ours."""


def _class_of(exception: object) -> str:
    """The class alone of what may quote anything."""
    name = str(exception).partition("(")[0]
    return name if name.isidentifier() else "Exception"
