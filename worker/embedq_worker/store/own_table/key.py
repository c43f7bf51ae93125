"""An item's id as the key of a row in somebody's own table, whose column may have another type than text."""

from __future__ import annotations

import re
from collections.abc import Callable

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def is_key(item_id: str, key_type: str) -> bool:
    """Whether a column of that type, as Postgres names it, holds this very id.

    It must be written as Postgres writes it: if ``7`` and ``007`` were one row, their versions in the ledger
    would not know of each other.
    """
    name, _, size = key_type.rstrip(")").partition("(")
    return _CHECKS[name](item_id) and not (size and len(item_id) > int(size))


def _fits(item_id: str, bits: int) -> bool:
    written = _INTEGER.fullmatch(item_id) is not None
    return written and -(1 << bits - 1) <= int(item_id) < 1 << bits - 1


_CHECKS: dict[str, Callable[[str], bool]] = {
    "text": lambda _: True,
    "character varying": lambda _: True,
    "integer": lambda item_id: _fits(item_id, 32),
    "bigint": lambda item_id: _fits(item_id, 64),
    "uuid": lambda item_id: _UUID.fullmatch(item_id) is not None,
}
KEY_TYPES = tuple(_CHECKS)
"""What a key column may be."""
