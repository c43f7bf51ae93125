"""A collection held against what its application has committed: pure logic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from embedq.testing import vector_of
from tests.chaos.checker import Stored

_SHOWN = 10


@dataclass
class Comparison:
    """How many ids are as they should be, and what is not."""

    ok: int = 0
    broken: dict[str, list[str]] = field(default_factory=dict)
    """Findings by kind: lost, stale, unexpected, wrong vector."""

    def find(self, kind: str, item_id: str) -> None:
        """Something is not as it should be."""
        self.broken.setdefault(kind, []).append(item_id)

    def __str__(self) -> str:
        lines = [f"ok {self.ok:,}"]
        for kind, ids in self.broken.items():
            lines.append(
                f"  {kind} {len(ids):,}: {', '.join(ids[:_SHOWN])}{', …' if len(ids) > _SHOWN else ''}"
            )
        return "\n".join(lines)


def compare(committed: Mapping[str, str], stored: Sequence[Stored]) -> Comparison:
    """Every committed row has its text and its vector in the collection, once, and nothing else is there."""
    found = Comparison()
    rows = {row.key[1]: row for row in stored}
    for item_id in committed.keys() - rows.keys():
        found.find("lost", item_id)
    for item_id, row in rows.items():
        kind = _kind(committed.get(item_id), row)
        if kind:
            found.find(kind, item_id)
        else:
            found.ok += 1
    return found


def _kind(text: str | None, row: Stored) -> str:
    """What is wrong with a row; nothing if it is right."""
    if text is None:
        return "unexpected"
    if row.content != text:
        return "stale"
    return "" if np.array_equal(row.vector, vector_of(text, len(row.vector))) else "wrong vector"
