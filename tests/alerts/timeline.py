"""A timeline: what Prometheus sees while all is well, while something is wrong, and afterwards.

For ``promtool test rules``: values every five seconds, in promtool's own notation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INTERVAL = 5
UP = 'up{job="embedq",instance="a:9100"}'
"""Of a worker that answers; held where it plays no part, as there is an alert without any."""
STARTED = 'process_start_time_seconds{job="embedq",instance="a:9100"}'


@dataclass(frozen=True)
class Timeline:
    """The series that an alert's rule reads, and when it fires. Times in seconds from the start."""

    alert: str
    series: Mapping[str, str]
    well: int
    """Nothing fires: all is well, or the trouble is too young or too small."""
    fires: int
    over: int | None
    """It fires no more. None: another timeline of it shows when."""
    also: tuple[str, ...] = ()
    """Other alerts that fire then."""
    labels: Mapping[str, str] = field(default_factory=dict)


def held(value: float, seconds: int) -> str:
    """The same value for so long."""
    return f"{value:g}x{seconds // INTERVAL - 1}"


def counted(value: float, each: float, seconds: int) -> str:
    """A counter that has ``value`` and grows by ``each`` every five seconds."""
    return f"{value:g}+{each:g}x{seconds // INTERVAL - 1}"


def then(*pieces: str) -> str:
    """One after the other."""
    return " ".join(pieces)


def switched(well: float, wrong: float, seconds: int = 60) -> str:
    """A gauge: a minute, ``seconds`` of something else, then as before for a long time."""
    return then(held(well, 60), held(wrong, seconds), held(well, 1200))


def burst(count: float, later: int = 1200) -> str:
    """A counter that has stood at 0 for a minute and then at ``count``."""
    return then(held(0, 60), held(count, later))


def appeared(count: float, later: int = 1200) -> str:
    """A counter that is first seen after a minute, with all that it has counted."""
    return then("_x12", held(count, later))
