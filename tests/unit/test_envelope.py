"""What comes from a queue is opened without trust."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport import virtual

from embedq_worker.intake.envelope import NOT_AN_ENVELOPE, open_envelope


class Channel:
    """As much of a channel as kombu's message needs."""

    codecs = virtual.Channel.codecs
    decode_body = virtual.Channel.decode_body


def envelope(**changes: Any) -> dict[str, Any]:
    """A message as kombu stores it."""
    stored: dict[str, Any] = {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "embedq.embed", "id": "x"},
        "properties": {
            "delivery_tag": "theirs",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "e"},
        },
    }
    return {**stored, **changes}


def test_the_tag_and_the_queue_are_ours() -> None:
    """A delivery tag inside a message is foreign data."""
    opened = open_envelope(json.dumps(envelope()).encode(), "ours", "embedq.docs")
    assert opened["properties"]["delivery_tag"] == "ours"
    assert opened["properties"]["delivery_info"] == {"exchange": "", "routing_key": "embedq.docs"}


@pytest.mark.parametrize("kept", ["x", "0b8e6a52-5c0f-4f0e-9a55-6f1f6f3c9d10", "a.b_c:d-1", "x" * 255])
def test_an_id_is_kept(kept: str) -> None:
    """Revokes and replies go by it."""
    headers = {"task": "embedq.embed", "id": kept}
    opened = open_envelope(json.dumps(envelope(headers=headers)).encode(), "ours", "q")
    assert opened["headers"]["id"] == kept


@pytest.mark.parametrize("strange", ["a text", "", "x\n", "é", "x" * 256, 5, None, ["a text"], {}])
def test_an_id_that_monitors_may_not_show_is_replaced(strange: object) -> None:
    """The rest of the message is left, so that the job is done."""
    headers = {"task": "embedq.embed", "id": strange}
    opened = open_envelope(json.dumps(envelope(headers=headers)).encode(), "ours", "q")
    assert str(UUID(opened["headers"]["id"])) == opened["headers"]["id"]
    assert opened["headers"]["task"] == "embedq.embed"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"properties": {}}',
        json.dumps(envelope(headers=None)).encode(),
        json.dumps(envelope(body=5)).encode(),
        json.dumps(envelope(body="a", properties={"body_encoding": "base64"})).encode(),
        json.dumps(envelope(properties={"body_encoding": "rot13"})).encode(),
        b"\xff\xfe",
    ],
)
def test_what_is_no_envelope_says_so(broken: bytes) -> None:
    """It keeps the raw message, for the dead letter."""
    assert open_envelope(broken, "ours", "q")["content-type"] == NOT_AN_ENVELOPE


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["body", "headers", "properties", "body_encoding"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_kombu_can_take_whatever_comes_out(message: bytes) -> None:
    """No message raises an exception in the event loop."""
    opened = open_envelope(message, "ours", "q")
    built = virtual.Message(opened, channel=Channel())
    assert built.delivery_tag == "ours"
