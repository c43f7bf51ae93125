"""The outcome of a run, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.chaos.outbox.comparing import Comparison

_NO_DEEDS = ("left", "continue", "outcome")


class UnderWay(NamedTuple):
    """What is on its way."""

    rows: int
    """Of the outbox."""
    messages: int
    """Queued, in hand or suspect."""


NOTHING = UnderWay(0, 0)


@dataclass(frozen=True)
class Report:
    """Everything that a run has shown."""

    comparison: Comparison
    left: UnderWay
    """When waiting for it ended."""
    letters: int
    transactions: Mapping[str, int]
    """By how they ended."""
    deeds: Mapping[str, int]
    emptied: UnderWay
    """What was in Redis when it was emptied."""
    seconds: float
    folder: Path

    @property
    def broken(self) -> dict[str, int]:
        """Every kind of finding, and how many."""
        others = {"not finished": sum(self.left), "dead letters": self.letters}
        found = {kind: len(ids) for kind, ids in self.comparison.broken.items()}
        return found | {kind: count for kind, count in others.items() if count}

    def __str__(self) -> str:
        deeds = {name: times for name, times in self.deeds.items() if name not in _NO_DEEDS}
        lines = [
            f"{self.seconds:.0f} s; {_listed(self.transactions)}",
            f"{_listed(deeds)}, with {self.emptied.messages:,} messages of {self.emptied.rows:,} rows",
            str(self.comparison),
            f"left: {self.left.rows:,} rows in the outbox, {self.left.messages:,} messages",
            f"dead letters: {self.letters:,}",
            f"history and logs: {self.folder}",
            f"BROKEN: {_listed(self.broken)}" if self.broken else "the collection is what was committed",
        ]
        return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
