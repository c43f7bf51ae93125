"""Which column of a source is which field of an item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from embedq.cli.sources.values import as_id, as_json, as_metadata, as_text, as_version

WHOLE = "metadata"
"""A column of this name that holds an object is the metadata, where no columns are named for it."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """The columns by field. ``text`` may be several, joined by a blank line; each of ``metadata`` is a key.

    Without columns for them, those called ``version`` and ``metadata`` are taken where there are any.
    """

    id: str = "id"
    text: tuple[str, ...] = ("text",)
    version: str | None = None
    metadata: tuple[str, ...] = ()

    def item(self, row: dict[str, Any]) -> dict[str, Any]:
        """The item of a row. Raises ``InvalidItem``."""
        item_id = as_id(row.get(self.id))
        item: dict[str, Any] = {"id": item_id, "text": as_text(map(row.get, self.text), item_id)}
        version = as_version(row.get(self.version or "version"), item_id)
        metadata = self._metadata(row, item_id)
        if version is not None:
            item["version"] = version
        if metadata:
            item["metadata"] = metadata
        return item

    def check(self, columns: Sequence[str], source: str) -> None:
        """Refuse a source that has not every column, or one of them twice, as wrong usage."""
        for name in self.columns():
            if columns.count(name) != 1:
                known = ", ".join(columns) or "none"
                fault = "no column" if name not in columns else "more than one column"
                raise click.UsageError(f"{source} has {fault} {name!r}; its columns: {known}{_HOW}")

    def of(self, columns: Iterable[str]) -> list[str]:
        """Those of a source's columns that an item is made of."""
        wanted = {*self.columns(), self.version or "version", *(self.metadata or (WHOLE,))}
        return [name for name in columns if name in wanted]

    def columns(self) -> list[str]:
        """Every column that must be there."""
        return [self.id, *self.text, *([self.version] if self.version else []), *self.metadata]

    def state(self) -> dict[str, str | int]:
        """The columns, as a checkpoint keeps them."""
        lists = {name: msgspec.json.encode(getattr(self, name)).decode() for name in ("text", "metadata")}
        return {"id": self.id, "version": self.version or "", **lists}

    def _metadata(self, row: dict[str, Any], item_id: str) -> dict[str, Any] | None:
        if not self.metadata:
            return as_metadata(row.get(WHOLE), item_id)
        return {name: as_json(row[name]) for name in self.metadata if row.get(name) is not None}


_HOW = " (name others with --id, --text, --version and --metadata)"
