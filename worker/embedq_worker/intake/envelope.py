"""The envelope of a message: what kombu wraps around a body, read without trust.

A delivery tag inside a message is foreign data, two clients can send equal ones; it is overwritten with the
worker's own. What is no envelope is put into one that says so, and becomes a dead letter instead of an
exception in the event loop.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any
from uuid import uuid4

import msgspec
from kombu.exceptions import DecodeError
from kombu.transport import virtual

NOT_AN_ENVELOPE = "application/x-embedq-not-an-envelope"
"""Content type of a message that could not be read; its body is the raw message."""

Envelope = dict[str, Any]

_DROPPED_HEADERS = ("eta", "root_id", "parent_id", "retries")
"""A job for later would take the room of one for now. The others Celery tells monitors as they came, and a
strange client may have written a text there."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,255}", re.ASCII)
"""What an id may be: it is in events, logs and traces, and a strange client may have written a text there."""

_decoder = msgspec.json.Decoder()


class Message(virtual.Message):
    """A message whose JSON body is decoded in C, without kombu's hooks for types that no job has."""

    def _decode(self) -> Any:
        if self.content_type != "application/json":
            return super()._decode()
        try:
            return _decoder.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return self._decode_slowly()

    def _decode_slowly(self) -> Any:
        """Python's decoder takes lone surrogates, so that an item that has one dies alone."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise DecodeError("the body is not JSON") from error


def open_envelope(message: bytes, tag: str, queue: str) -> Envelope:
    """The message as kombu's ``virtual.Message`` takes it, under the worker's own delivery tag."""
    try:
        envelope: Any = _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return unreadable(message, tag, queue)
    body = _body(envelope)
    if body is None:
        return unreadable(message, tag, queue)
    opened: Envelope = envelope
    _mend(opened["headers"])
    opened["body"] = body
    opened["properties"] |= {
        "delivery_tag": tag,
        "body_encoding": None,  # the body is decoded already
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    return opened


def _mend(headers: dict[str, Any]) -> None:
    """Take away what monitors may not see; a job whose id is not one is done under another."""
    for name in _DROPPED_HEADERS:
        headers.pop(name, None)
    id_ = headers.get("id")
    if not (isinstance(id_, str) and _ID.fullmatch(id_)):
        headers["id"] = str(uuid4())


def _body(envelope: object) -> bytes | None:
    """The decoded body of what kombu and Celery can take apart without an exception; None if they cannot."""
    if not isinstance(envelope, dict) or not isinstance(envelope.get("properties"), dict):
        return None
    body = envelope.get("body")
    if not isinstance(envelope.get("headers"), dict) or not isinstance(body, str):
        return None
    encoding = envelope["properties"].get("body_encoding")
    try:
        if encoding == "base64":
            return binascii.a2b_base64(body)
        return body.encode() if encoding in (None, "utf-8") else None
    except (binascii.Error, ValueError):
        return None


def unreadable(message: bytes, tag: str, queue: str) -> Envelope:
    """An envelope that says that its body, the raw message, could not be read."""
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
