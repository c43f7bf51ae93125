"""What became of a job, as counts: the result that monitors see. Never a text, key or id."""

from __future__ import annotations

from collections.abc import Callable

Summary = dict[str, int]
"""Counts by name.

``items``; of these ``stored``, ``unchanged``, ``deleted``, ``superseded``, ``dead``, ``withdrawn``; of the
dead ``dead: <class>/<code>``. ``texts`` are those whose vectors came (of an item whose text was split,
several), of which ``cached`` were not called for. ``tokens`` as the service counts them, ``retries`` of
calls, and ``milliseconds`` in the engine.
"""
Finish = Callable[[Summary], None]
"""Is told once what became of a job."""

OUTCOMES = (
    "dead",
    "stored",
    "unchanged",
    "deleted",
    "superseded",
    "withdrawn",
    "answered",
    "refused",
)
"""What can become of an item; what a person wants to know first stands first. The last two are of queries."""
_CAUSE = "dead: "


def died_of(summary: Summary, reason: str) -> None:
    """Count a dead letter by its reason: class and code."""
    summary[_CAUSE + reason] = summary.get(_CAUSE + reason, 0) + 1


def causes(summary: Summary) -> str:
    """What its dead letters died of, the most frequent first: ``2 text/too_long, 1 row/22001``."""
    found = [(name.removeprefix(_CAUSE), count) for name, count in summary.items() if name.startswith(_CAUSE)]
    found.sort(key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count} {reason}" for reason, count in found) or "see why there"
