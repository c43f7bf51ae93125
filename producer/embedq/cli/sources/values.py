"""Values of columns as the fields of an item; one that will not do breaks a named rule, as in ``items``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from embedq.contract import MAX_METADATA_DEPTH
from embedq.errors import InvalidItem

BETWEEN_COLUMNS = "\n\n"
"""Between the columns of a text that is several ones."""
_MOST_DIGITS = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_id(value: object) -> str:
    """A string, or a whole number, UUID, date or time written as one. Raises ``InvalidItem``."""
    if value is None:
        raise InvalidItem(None, "id_missing", "it has no id")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal | UUID | date):
        raise InvalidItem(
            None, "id_type", f"its id is a {type(value).__name__}, not a string or a whole number"
        )
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def as_text(values: Iterable[object], item_id: str) -> str:
    """The columns of a text; of several the blank ones are left out. Raises ``InvalidItem``."""
    parts = [_as_part(value, item_id) for value in values]
    return parts[0] if len(parts) == 1 else BETWEEN_COLUMNS.join(part for part in parts if part.strip())


def as_version(value: object, item_id: str) -> int | None:
    """A whole number, its digits, or a point in time as microseconds since the epoch. Raises ``InvalidItem``.

    A time without a zone is taken for UTC.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        since = moment - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _MOST_DIGITS:
        return int(value)
    number = as_json(value)
    if type(number) is not int:
        raise InvalidItem(
            item_id, "version_type", "its version is neither a whole number nor a point in time"
        )
    return number


def as_metadata(value: object, item_id: str) -> dict[str, Any] | None:
    """The metadata from one column: an object, or the JSON text of one. Raises ``InvalidItem``."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise InvalidItem(item_id, "metadata_not_json", "its metadata is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidItem(item_id, "metadata_type", "its metadata is not an object")
    return {str(key): as_json(each) for key, each in value.items()}


def as_json(value: Any, depth: int = MAX_METADATA_DEPTH + 1) -> Any:
    """A column's value in metadata: times and UUIDs as strings, decimals as numbers.

    What JSON has no word for stays as it is, and what is nested deeper than ``depth``: the contract's rules
    refuse it, and say so.
    """
    if depth == 0:
        return value
    match value:
        case Decimal():
            return _as_number(value)
        case UUID():
            return str(value)
        case date() | time():
            return value.isoformat()
        case dict():
            return {key: as_json(each, depth - 1) for key, each in value.items()}
        case list() | tuple():
            return [as_json(each, depth - 1) for each in value]
        case _:
            return value


def _as_number(value: Decimal) -> int | float:
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _as_part(value: object, item_id: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | UUID | date | time):
        raise InvalidItem(item_id, "text_type", f"its text is a {type(value).__name__}, not a string")
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return str(value)
