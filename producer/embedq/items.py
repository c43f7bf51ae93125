"""Reading an item that a caller gave: each wrong type is a named rule, never a ``TypeError``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from embedq.contract import MAX_ID_LENGTH, MAX_VERSION, Item, Versions, check_item
from embedq.errors import InvalidItem

OnInvalid = Callable[[InvalidItem], None]
"""Is given an item that breaks a rule, in place of the caller, and the rest goes on."""
_FIELDS = frozenset(Item.__struct_fields__)
_encoder = msgspec.json.Encoder()


def read_item(value: object) -> Item:
    """An ``Item`` from an ``Item`` or a mapping of its fields, with the types of its fields checked.

    Raises ``InvalidItem``; ``docs/contract.md`` lists the rules.
    """
    item = value if isinstance(value, Item) else _from_mapping(value)
    _check_id(item.id)
    if item.text is not None and type(item.text) is not str:
        raise InvalidItem(item.id, "text_type", f"its text is {_kind(item.text)}, not a plain string")
    if type(item.deleted) is not bool:
        raise InvalidItem(item.id, "deleted_type", f"its deleted is {_kind(item.deleted)}, not true or false")
    if item.version is not None:
        _check_version(item.version, item.id)
    if item.metadata is not None and not isinstance(item.metadata, dict):
        raise InvalidItem(item.id, "metadata_type", f"its metadata is {_kind(item.metadata)}, not an object")
    return item


def settle_version(item: Item, versions: Versions | None, version: int) -> Item:
    """The item with its version: the caller's, or ``version`` from the clock.

    ``versions`` is the collection's rule, ``None`` when it is not known. Raises ``InvalidItem``: a caller's
    version among those of the clock would order the writes of one id wrongly.
    """
    if versions == "clock" and item.version is not None:
        raise InvalidItem(
            item.id,
            "version_given",
            "this collection takes versions from the clock; give none, or create it with versions = given",
        )
    check_item(item, versions or "clock")
    if item.version is not None:
        return item
    return Item(item.id, item.text, version, item.metadata, item.deleted)


def encode_item(item: Item) -> bytes:
    """The item as UTF-8 JSON. Raises ``InvalidItem`` where JSON cannot hold it."""
    try:
        return _encoder.encode(item)
    except (TypeError, ValueError, RecursionError, OverflowError):
        # The foreign message may quote the value; its place is enough.
        raise InvalidItem(item.id, "metadata_not_json", "its metadata cannot be written as JSON") from None


def delete(item_id: str, version: int | None) -> dict[str, Any]:
    """The item that deletes an id, to be read like any other."""
    return {"id": item_id, "version": version, "deleted": True}


def check_ids(ids: object) -> None:
    """Refuse one string in place of several ids. Raises ``InvalidItem``."""
    if isinstance(ids, str | bytes):
        raise InvalidItem(None, "ids_type", "delete takes several ids; give a list, such as ['42']")


def _from_mapping(value: object) -> Item:
    if type(value) is dict:
        try:
            item = Item(**value)
        except TypeError:
            pass  # below it is said why
        else:
            if item.deleted is not None:
                return item
    return _from_fields(value)


def _from_fields(value: object) -> Item:
    if not isinstance(value, Mapping):
        raise InvalidItem(None, "item_type", f"{_kind(value)} is neither an Item nor a mapping")
    fields: dict[str, Any] = dict(value)
    if "id" not in fields:
        raise InvalidItem(None, "id_missing", "it has no id")
    if not fields.keys() <= _FIELDS:
        _check_id(fields["id"])
        strange = sorted(str(name)[:40] for name in fields.keys() - _FIELDS)
        raise InvalidItem(fields["id"], "field_unknown", f"it has the unknown field {strange[0]!r}")
    # An explicit null means the same as a field left out.
    return Item(**{name: field for name, field in fields.items() if field is not None or name == "id"})


def _check_id(item_id: object) -> None:
    if type(item_id) is not str:
        raise InvalidItem(None, "id_type", f"its id is {_kind(item_id)}, not a plain string")
    if not item_id:
        raise InvalidItem(None, "id_empty", "its id is empty")
    if len(item_id) > MAX_ID_LENGTH:
        raise InvalidItem(
            item_id[:40] + "…",
            "id_too_long",
            f"its id has {len(item_id)} characters, at most {MAX_ID_LENGTH}",
        )


def _check_version(version: object, item_id: str) -> None:
    if type(version) is not int:
        raise InvalidItem(item_id, "version_type", f"its version is {_kind(version)}, not an integer")
    if not 0 <= version <= MAX_VERSION:
        raise InvalidItem(item_id, "version_range", "its version is not within 0 and 2**63 - 1")


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "null"
