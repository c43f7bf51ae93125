"""What every source has in common: rows become items, bad ones are named, a position says how far it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from embedq.cli.sources.bad_rows import BadRows
from embedq.cli.sources.mapping import Mapping
from embedq.errors import InvalidItem

Position = int | str | list[int]
"""Where in a source a load goes on, as JSON has it; what it means is the source's own."""


class Source(ABC):
    """Yields the items of a place, once and in a fixed order.

    ``name`` is what errors call it. ``total`` and ``done`` measure the way through it, in units of its own;
    ``total`` is None where nobody knows. Without a ``mapping`` a row is an item as it is.
    """

    unit: ClassVar[str] = "row"
    """What a row of it is called."""
    is_resumable: bool = True
    """Whether it can be read from the middle."""

    def __init__(self, name: str, mapping: Mapping | None) -> None:
        self.name = name
        self.bad = BadRows(name)
        self.total: int | None = None
        self._mapping = mapping

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows():
            try:
                if isinstance(row, InvalidItem):
                    raise row
                item = row if self._mapping is None else self._mapping.item(row)
            except InvalidItem as error:
                self.reject(error)
            else:
                yield item

    def reject(self, error: InvalidItem) -> None:
        """Count the row last read as bad: it breaks a rule."""
        self.bad.add(self.place, f"{error.explanation} ({error.rule})")

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the row last read is, as errors name it."""

    @property
    @abstractmethod
    def done(self) -> int:
        """How much of ``total`` is read."""

    @property
    @abstractmethod
    def position(self) -> Position | None:
        """Just behind the row last read."""

    @abstractmethod
    def go_to(self, position: Position) -> None:
        """Have the first row be the one at ``position``; call it before anything is read."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """What makes it this source and no other, whatever it holds now. No password is in it."""

    @abstractmethod
    def state(self) -> dict[str, str | int]:
        """What must be the same for a position in it to hold; empty where nothing can be said."""

    def shape(self) -> dict[str, str | int]:
        """How its items are made: its format and its columns. What must be the same too."""
        columns = {} if self._mapping is None else self._mapping.state()
        return {"format": type(self).__name__, **columns}

    @abstractmethod
    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        """The rows by their columns' names; in place of one that cannot be read, why."""

    def close(self) -> None:
        """Let go of what it is read by."""
        return
