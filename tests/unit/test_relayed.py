"""Which items of a message came by the outbox, whatever the message is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from embedq.messages import job_message, relayed_message
from embedq_worker.engine.delivery import as_payload
from embedq_worker.engine.outbox.relayed import items_named, relayed_items

HEADERS = {"embedq_outbox": True}
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
items = st.lists(st.tuples(ids, st.integers(0, 2**63 - 1)), min_size=1, max_size=20)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=10,
)


def job_of(named: list[tuple[str, int]]) -> dict[str, Any]:
    """A job with these items."""
    fields = [{"id": item_id, "version": version, "text": "x"} for item_id, version in named]
    return {"v": 1, "collection": "docs", "items": fields}


@given(items)
def test_a_whole_message_names_its_items(named: list[tuple[str, int]]) -> None:
    """As a killer's letter keeps it, and as keyword arguments."""
    job = job_of(named)
    message = relayed_message("docs", "embedq.docs", json.dumps(job).encode(), len(named), 1.0)
    assert relayed_items({}, message.payload) == tuple(named)
    assert relayed_items({}, as_payload(message.payload)) == tuple(named)
    assert relayed_items(HEADERS, {"job": job}) == tuple(named)


@given(items)
def test_what_came_otherwise_names_none(named: list[tuple[str, int]]) -> None:
    """Its rows, if there are such, are others' to settle."""
    job = job_of(named)
    message = job_message("docs", "embedq.docs", json.dumps(job).encode(), len(named), 1.0)
    assert relayed_items({}, message.payload) == ()
    assert relayed_items({"embedq_outbox": 1}, {"job": job}) == ()


@given(st.binary(max_size=200) | st.text(max_size=200) | json_values)
def test_nothing_is_too_strange(payload: Any) -> None:
    """No payload raises, and what is named can be asked of Postgres."""
    relayed_items({}, payload)
    for found in (
        relayed_items(HEADERS, payload),
        items_named([payload]),
        relayed_items(HEADERS, {"job": payload}),
    ):
        for item_id, version in found:
            item_id.encode()
            assert "\x00" not in item_id
            assert 0 <= version < 2**63
    message = json.dumps({"headers": HEADERS, "body": payload}, default=repr)
    assert relayed_items({}, message) == ()


def test_bad_items_are_passed_over() -> None:
    """Of a message beside good ones."""
    strange = [{"id": "\ud800", "version": 1}, {"id": "a\x00", "version": 1}, {"id": "b"}, None, {"id": 1}]
    strange += [{"id": "c", "version": True}, {"id": "d", "version": 2**63}, {"id": "e", "version": 1.5}]
    assert items_named([*strange, {"id": "good", "version": 3}]) == (("good", 3),)
