"""Packing encoded items into the fewest jobs that the contract allows, in the order they came."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from embedq.contract import MAX_ITEMS, MAX_MESSAGE_BYTES
from embedq.errors import InvalidItem


@dataclass(frozen=True, slots=True)
class PackedJob:
    """A job as UTF-8 JSON and the number of its items."""

    body: bytes
    items: int


class Packer:
    """Fills jobs of one collection with items, each up to 256 items and 1 MiB of UTF-8 JSON.

    ``add`` gives back the job that became full, ``rest`` the last one; between them no more than one job is
    in memory.
    """

    def __init__(self, collection: str, source: str | None = None) -> None:
        head: dict[str, object] = {"v": 1, "collection": collection}
        if source is not None:
            head["source"] = source
        self._head = msgspec.json.encode(head)[:-1] + b',"items":['
        self._empty_bytes = len(self._head) + len(b"]}")
        self._items: list[bytes] = []
        self._bytes = self._empty_bytes

    def add(self, item_id: str, encoded: bytes) -> PackedJob | None:
        """Take an item; the job before it where the item did not fit any more.

        Raises as ``check_size`` does.
        """
        self.check_size(item_id, encoded)
        comma = 1 if self._items else 0
        fits = len(self._items) < MAX_ITEMS and self._bytes + comma + len(encoded) <= MAX_MESSAGE_BYTES
        full = None if fits else self.rest()
        self._bytes += len(encoded) + (1 if self._items else 0)
        self._items.append(encoded)
        return full

    def check_size(self, item_id: str, encoded: bytes) -> None:
        """Raise ``InvalidItem`` where the item alone is larger than a message may be."""
        size = self._empty_bytes + len(encoded)
        if size > MAX_MESSAGE_BYTES:
            explanation = f"a message of it has {size} bytes, at most {MAX_MESSAGE_BYTES}"
            raise InvalidItem(item_id, "item_too_large", explanation)

    def rest(self) -> PackedJob | None:
        """The job of the items that wait, if any wait."""
        if not self._items:
            return None
        job = PackedJob(self._head + b",".join(self._items) + b"]}", len(self._items))
        self._items = []
        self._bytes = self._empty_bytes
        return job
