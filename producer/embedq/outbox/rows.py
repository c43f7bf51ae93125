"""Checked items as the columns of one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from embedq.contract import MAX_VERSION, Item, Lane, check_item
from embedq.errors import InvalidItem
from embedq.items import OnInvalid, encode_item, read_item
from embedq.packing import Packer

MAX_ROWS = 1000
"""Items of one statement. Fewer cost a round trip more often, many more wait for their array in memory."""
MAX_BYTES = 4 << 20
"""Bytes of one statement's items, as JSON, after which it takes no more."""


class Rows:
    """Items of one collection that become rows of the outbox together."""

    def __init__(self, collection: str, lane: Lane, source: str | None) -> None:
        self._of = {"collection": collection, "lane": lane, "source": source}
        self._packer = Packer(collection, source)
        self._items: list[Item] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next statement."""
        return len(self._items) >= MAX_ROWS or self._bytes >= MAX_BYTES

    def add(self, value: object) -> None:
        """Take an item, held against the rules that do not depend on the collection.

        Raises ``InvalidItem``.
        """
        item = read_item(value)
        check_item(item)
        # The clock's version is still to come, and takes its place in the message.
        encoded = encode_item(msgspec.structs.replace(item, version=MAX_VERSION))
        self._packer.check_size(item.id, encoded)
        self._items.append(item)
        self._bytes += len(encoded)

    def parameters(self) -> dict[str, Any]:
        """The values for ``enqueue_many.sql``."""
        return {
            **self._of,
            "ids": [item.id for item in self._items],
            "texts": [item.text for item in self._items],
            "metadata": [_json(item.metadata) for item in self._items],
            "versions": [item.version for item in self._items],
            "deleted": [item.deleted for item in self._items],
        }


def rows_of(
    items: Iterable[Item | Mapping[str, Any]],
    new_rows: Callable[[], Rows],
    on_invalid: OnInvalid | None,
) -> Iterator[Rows]:
    """The items, read one at a time, in statements' worth.

    An error, an item's or the iterable's own, is raised after what came before it was yielded.
    """
    rows = new_rows()
    try:
        for value in items:
            try:
                rows.add(value)
            except InvalidItem as error:
                if on_invalid is None:
                    raise
                on_invalid(error)
            if rows.is_full:
                yield rows
                rows = new_rows()
    except Exception:
        if rows:
            yield rows
        raise
    if rows:
        yield rows


def _json(metadata: dict[str, Any] | None) -> str | None:
    return None if metadata is None else msgspec.json.encode(metadata).decode()
