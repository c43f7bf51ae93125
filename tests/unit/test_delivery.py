"""A job is read item by item: a bad one does not cost its neighbours."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.delivery import Delivery, as_payload, item_id_of, read_job, read_query, version_of
from embedq_worker.errors import NotAJob


def delivery(payload: object, queue: str = "embedq.docs", **headers: object) -> Delivery:
    """A message's content."""
    return Delivery(task_id="t", queue=queue, payload=payload, headers=headers, finish=lambda _: None)


def job(*items: object, **changes: Any) -> dict[str, Any]:
    """A job's keyword arguments."""
    return {"job": {"v": 1, "collection": "docs", "items": list(items), **changes}}


GOOD = {"id": "1", "text": "a text"}


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"id": "2", "text": ""}, "text_empty"),
        ({"id": "2", "text": "nul \x00"}, "text_nul"),
        ({"id": "2", "text": "lone \ud800"}, "text_not_unicode"),
        ({"id": "2", "text": 5}, "wrong_type"),
        ({"id": 2, "text": "x"}, "wrong_type"),
        ({"text": "no id"}, "wrong_type"),
        ("not an item", "wrong_type"),
        (None, "wrong_type"),
        ({"id": "2"}, "text_missing"),
        ({"id": "2", "text": "x", "version": -1}, "wrong_type"),
        ({"id": "2", "text": "x", "metadata": {"k": "\x00"}}, "metadata_nul"),
        ({"id": "2", "deleted": True, "text": "x"}, "deleted_with_text"),
    ],
)
def test_a_bad_item_is_bad_alone(bad: object, rule: str) -> None:
    """Its neighbours on both sides are read."""
    read = read_job(delivery(job(GOOD, bad, {"id": "3", "deleted": True})), "clock")
    assert [item.id for item in read.good] == ["1", "3"]
    assert [(raw, error.rule) for raw, error in read.bad] == [(bad, rule)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "not_a_job"),
        (None, "not_a_job"),
        ("text", "not_a_job"),
        ({"job": []}, "not_a_job"),
        (job(), "no_items"),
        (job(*[GOOD] * 257), "too_many_items"),
        (job(GOOD, v=2), "unknown_version"),
        (job(GOOD, collection="other"), "wrong_queue"),
        (job(GOOD, collection="Robert'); DROP TABLE docs;--"), "wrong_queue"),
    ],
)
def test_what_is_not_a_job(payload: object, code: str) -> None:
    """Each way has its code."""
    with pytest.raises(NotAJob) as caught:
        read_job(delivery(payload), "clock")
    assert caught.value.code == code


def test_versions_given() -> None:
    """A collection that takes the caller's versions refuses an item without one."""
    read = read_job(delivery(job(GOOD, {**GOOD, "version": 7})), "given")
    assert [item.version for item in read.good] == [7]
    assert [error.rule for _, error in read.bad] == ["version_missing"]


def test_a_version_by_the_clock() -> None:
    """Microseconds of the header, where the item has none of its own."""
    arrived = delivery(job(GOOD, {**GOOD, "version": 7}), embedq_enqueued_at=1700000000.25)
    read = read_job(arrived, "clock")
    assert [version_of(item, arrived) for item in read.good] == [1700000000250000, 7]


@pytest.mark.parametrize("said", ["soon", None, True, -5, float("inf"), 1e300])
def test_a_header_that_cannot_be_a_time(said: object) -> None:
    """It is ignored."""
    arrived = delivery(job(GOOD), embedq_enqueued_at=said)
    assert 1_600_000_000 < arrived.enqueued_at < 10_000_000_000


def test_lane_and_collection_come_from_the_queue() -> None:
    """Nothing that a message says becomes a table."""
    assert (delivery({}, "embedq.docs").collection, delivery({}, "embedq.docs").lane) == ("docs", "live")
    assert (delivery({}, "embedq.docs.bulk").collection, delivery({}, "embedq.docs.bulk").lane) == (
        "docs",
        "bulk",
    )


def test_a_query_is_read() -> None:
    """And only a query."""
    query = {"v": 1, "collection": "docs", "text": "how?"}
    assert read_query(delivery(query, "embedq.docs.query")).text == "how?"
    for broken in ({**query, "text": ""}, {**query, "collection": "other"}, {}, None):
        with pytest.raises(NotAJob):
            read_query(delivery(broken, "embedq.docs.query"))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["job", "v", "items", "id", "text", "collection"]), inner)
    ),
    max_leaves=20,
)


@given(anything)
def test_no_payload_raises_anything_else(payload: object) -> None:
    """Whatever JSON can hold is a job or not one."""
    with suppress(NotAJob):
        read_job(delivery(payload), "clock")


@given(anything | st.binary())
def test_any_payload_can_be_stored(payload: object) -> None:
    """As text that Postgres takes: valid UTF-8 without NUL."""
    stored = as_payload(payload)
    assert "\x00" not in stored
    assert stored.encode().decode() == stored
    item_id = item_id_of({"id": payload})
    assert item_id is None or (item_id.encode() and "\x00" not in item_id)
