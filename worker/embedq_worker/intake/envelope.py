"""The envelope of a message: what kombu wraps around a body, read without trust.

A delivery tag inside a message is foreign data, two clients can send equal ones; it is overwritten with the
worker's own. What is no envelope is put into one that says so, and becomes a dead letter instead of an
exception in the event loop.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

NOT_AN_ENVELOPE = "application/x-embedq-not-an-envelope"
"""Content type of a message that could not be read; its body is the raw message."""

Envelope = dict[str, Any]

_decoder = msgspec.json.Decoder()


def open_envelope(message: bytes, tag: str, queue: str) -> Envelope:
    """The message as kombu's ``virtual.Message`` takes it, under the worker's own delivery tag."""
    try:
        envelope: Any = _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unreadable(message, tag, queue)
    if not _is_envelope(envelope):
        return _unreadable(message, tag, queue)
    opened: Envelope = envelope
    opened["properties"]["delivery_tag"] = tag
    opened["properties"]["delivery_info"] = {"exchange": "", "routing_key": queue}
    return opened


def _is_envelope(envelope: object) -> bool:
    """Whether kombu and Celery can take it apart without an exception."""
    if not isinstance(envelope, dict) or not isinstance(envelope.get("properties"), dict):
        return False
    if not isinstance(envelope.get("headers"), dict) or not isinstance(envelope.get("body"), str):
        return False
    encoding = envelope["properties"].get("body_encoding")
    if encoding == "base64":
        return _is_base64(envelope["body"])
    return encoding in (None, "utf-8")


def _is_base64(body: str) -> bool:
    try:
        binascii.a2b_base64(body, strict_mode=False)
    except (binascii.Error, ValueError):
        return False
    return True


def _unreadable(message: bytes, tag: str, queue: str) -> Envelope:
    return {
        "body": message.decode("utf-8", "backslashreplace"),
        "content-type": NOT_AN_ENVELOPE,
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {
            "delivery_tag": tag,
            "body_encoding": None,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
