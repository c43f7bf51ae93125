"""Which of a message's items came by the outbox, also where it is buried as a whole, unread.

What is buried without its row would be sent again for ever. Nothing of a message is trusted: it is looked at
for ids and versions, whatever else it says.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from embedq.contract import MAX_VERSION, OUTBOX_HEADER

Items = tuple[tuple[str, int], ...]
"""Ids and versions."""
_decode = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError)


def is_relayed(headers: Mapping[str, Any]) -> bool:
    """Whether a relay sent the message with these headers."""
    return headers.get(OUTBOX_HEADER) is True


def relayed_items(headers: Mapping[str, Any], payload: object) -> Items:
    """The items of a message that a relay sent, else none.

    ``payload``: its keyword arguments, or the raw message, whose own headers count then.
    """
    if isinstance(payload, str | bytes):
        headers, payload = _opened(payload)
    if not is_relayed(headers) or not isinstance(payload, dict):
        return ()
    job = payload.get("job")
    items = job.get("items") if isinstance(job, dict) else None
    return items_named(items) if isinstance(items, list) else ()


def items_named(items: Sequence[object]) -> Items:
    """Those of some items, as they came, that name an id and a version as rows of the outbox have them."""
    fields = [(each.get("id"), each.get("version")) for each in items if isinstance(each, dict)]
    return tuple(
        (item_id, version) for item_id, version in fields if _is_id(item_id) and _is_version(version)
    )


def _opened(message: str | bytes) -> tuple[Mapping[str, Any], object]:
    """Headers and keyword arguments of a message as it stands in Redis; of anything else, nothing."""
    try:
        envelope = _decode(message)
        body = _decode(binascii.a2b_base64(envelope["body"]))
        headers, payload = envelope["headers"], body[1]
    except (*_UNREADABLE, TypeError, LookupError, AttributeError):
        return {}, None
    return (headers, payload) if isinstance(headers, dict) else ({}, None)


def _is_id(text: object) -> TypeGuard[str]:
    """Whether it is text that Postgres takes."""
    return isinstance(text, str) and not any(each == "\x00" or "\ud800" <= each <= "\udfff" for each in text)


def _is_version(version: object) -> TypeGuard[int]:
    return isinstance(version, int) and not isinstance(version, bool) and 0 <= version <= MAX_VERSION
