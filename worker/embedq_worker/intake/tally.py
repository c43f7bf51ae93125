"""What this process has done: messages and items, by queue."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts from the start of the process. Added to on the hub's thread."""

    _done: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, queue: str, items: int) -> None:
        """A message of ``queue`` is done, with this many items."""
        messages, before = self._done.get(queue, (0, 0))
        self._done[queue] = messages + 1, before + items

    @property
    def done(self) -> dict[str, tuple[int, int]]:
        """Messages and items by queue. From any thread."""
        return self._done.copy()
