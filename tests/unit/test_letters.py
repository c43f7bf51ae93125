"""What a dead letter becomes when it is replayed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.contract import Item, Versions
from embedq.messages import Message, job_message
from embedq_worker.engine.delivery import as_payload
from embedq_worker.engine.pipeline import _payload
from embedq_worker.engine.work import RunningItem, RunningJob
from embedq_worker.errors import NotReplayable
from embedq_worker.store.dead_letters.letters import Letter, as_new
from embedq_worker.store.moving.fill_message import Fill

KNOWN: dict[str, Versions] = {"docs": "clock", "rows": "given"}
DIED = datetime(2026, 1, 1, tzinfo=UTC)

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
items = st.builds(
    RunningItem,
    st.just(RunningJob(1, lane="live", source=None, finish=lambda _: None)),
    words,
    st.integers(0, 2**63 - 1),
    st.none() | words.filter(lambda text: not text.isspace()),
    st.none() | st.dictionaries(words, st.integers() | words | st.booleans() | st.none()),
)


def letter(payload: str | None, **fields: Any) -> Letter:
    """A letter of class ``text`` in ``docs``."""
    fields = {
        "number": 1,
        "collection": "docs",
        "version": 7_000_000,
        "cause": "text",
        "code": "too_long",
        "source": None,
        "lane": "live",
        "first_at": DIED,
        "payload": payload,
        **fields,
    }
    return Letter(**fields)


def job(collection: str = "docs", v: int = 1, items: object = ({"id": "1", "text": "x"},)) -> str:
    """The payload of a job that was none: its keyword arguments."""
    return as_payload({"job": {"v": v, "collection": collection, "items": items, "source": "shop"}})


@given(items)
def test_an_item_comes_back_as_it_was(item: RunningItem) -> None:
    """Id, text, version and metadata, of texts and deletes."""
    expected = Item(item.id, item.text, item.version, item.metadata, item.text is None)
    assert as_new(letter(_payload(item)), KNOWN, "live") == expected


def test_an_item_without_a_version_has_the_one_it_would_have_had() -> None:
    """The time at which it was enqueued, or if that is not known, at which it died."""
    payload = json.dumps({"id": "1", "text": "mended"})
    assert as_new(letter(payload), KNOWN, "live") == Item("1", "mended", 7_000_000)
    expected = int(DIED.timestamp() * 1e6)
    assert as_new(letter(payload, version=None), KNOWN, "live") == Item("1", "mended", expected)


def test_a_raw_message_comes_back_byte_for_byte() -> None:
    """To the queue of the lane that is asked for."""
    raw = job_message("docs", "embedq.docs", b'{"v":1,"collection":"docs","items":[]}', 1, 3.0).payload
    again = as_new(letter(raw.decode(), cause="killer", code="killed_its_worker"), KNOWN, "bulk")
    assert isinstance(again, Message)
    assert (again.queue, again.payload) == ("embedq.docs.bulk", raw)


def test_the_arguments_of_a_job_become_its_message() -> None:
    """With all that the job said, and the time at which it was enqueued."""
    again = as_new(letter(job(), cause="not_a_job", code="unknown_collection"), KNOWN, "live")
    assert isinstance(again, Message)
    envelope = json.loads(again.payload)
    kwargs = json.loads(base64.b64decode(envelope["body"]))[1]
    assert (again.queue, again.items) == ("embedq.docs", 1)
    assert kwargs == json.loads(job())
    assert envelope["headers"]["embedq_enqueued_at"] == 7.0


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (letter("{}", collection="gone"), "there is no collection 'gone'"),
        (letter("{}", collection=None), "there is no collection None"),
        (letter(None), "its text is gone"),
        (letter(json.dumps({"id": "1", "text": ""})), "breaks the contract: text_empty"),
        (letter(json.dumps({"id": "1", "text": "\x00"})), "breaks the contract: text_nul"),
        (letter(json.dumps({"id": "1", "text": 5})), "not of the contract's types"),
        (letter("no json"), "not of the contract's types"),
        (letter(json.dumps({"id": "1", "text": "\ud800"})), "not of the contract's types"),
        (letter(json.dumps({"id": "1", "text": "x"}), collection="rows"), "version_missing"),
        (letter(job(), cause="not_a_job", lane="query"), "it was a query"),
        (letter("no json", cause="not_a_job"), "neither a message nor a job"),
        (letter("[" * 5000 + "]" * 5000, cause="not_a_job"), "neither a message nor a job"),
        (letter('[[],{"job":{}},{}]', cause="not_a_job"), "neither a message nor a job"),
        (letter(job(v=2), cause="not_a_job"), "neither a message nor a job"),
        (letter(job(items=[]), cause="not_a_job"), "neither a message nor a job"),
        (letter(job(collection="rows"), cause="not_a_job"), "the queue of another collection"),
    ],
)
def test_what_cannot_be_replayed_says_why(refused: Letter, reason: str) -> None:
    """In words for a person."""
    with pytest.raises(NotReplayable, match=reason):
        as_new(refused, KNOWN, "live")


def test_a_letter_of_a_fill_never_becomes_an_item() -> None:
    """Its rows are filled again: the item is stored, with other chunks and metadata than the letter knows."""
    fill = Fill(1, "docs", 2, ["a long document"])
    died = letter(msgspec.json.encode(fill).decode(), cause="successor", lane="bulk")
    message = as_new(died, KNOWN, "live")
    assert isinstance(message, Message)
    assert (message.queue, message.items) == ("embedq.docs.bulk", 1)
    for payload in (None, json.dumps({"id": "1", "text": "a chunk"})):
        with pytest.raises(
            NotReplayable, match=r"its item is stored, .* run `embedq collection migrate docs`"
        ):
            as_new(letter(payload, cause="successor"), KNOWN, "live")
