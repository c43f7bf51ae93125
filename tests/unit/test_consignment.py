"""Rows of the outbox, packed: nothing lost, doubled or mixed up, and every message within the contract."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from embedq.contract import MAX_ITEMS, MAX_MESSAGE_BYTES
from embedq_worker.engine.outbox.consignment import Consignment
from embedq_worker.engine.outbox.overdue import age_to_resend
from embedq_worker.engine.outbox.sentinel import epoch_in
from embedq_worker.store.fleet.queues import Queue
from embedq_worker.store.outbox.unsettled import OutboxLane, OutboxRow

LANE = OutboxLane(1, "docs", "m", is_bulk=False, epoch=0, age=0.0)


@st.composite
def outbox_rows(draw: st.DrawFn) -> list[OutboxRow]:
    """Rows of any kind that Postgres may hold, some as large as a message."""
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
    texts = st.text(characters, max_size=8) | st.integers(1, 3 << 19).map(lambda size: "x" * size)
    metadata = st.none() | st.sampled_from(['{"a": 1}', "[1]", "null", "7", '{"n": 1e400}'])
    rows = draw(
        st.lists(
            st.tuples(
                st.text(characters, max_size=8),
                st.sampled_from([None, "a", "b"]),
                texts | st.none(),
                metadata,
            ),
            max_size=40,
        )
    )
    return [
        OutboxRow(
            number,
            item_id,
            number,
            source,
            is_delete := draw(st.booleans()) if text is None else False,
            text,
            said,
            text is None and not is_delete,
            number,
        )
        for number, (item_id, source, text, said) in enumerate(rows, 1)
    ]


@settings(max_examples=60, deadline=None)
@given(outbox_rows())
def test_every_row_is_sent_or_refused(rows: list[OutboxRow]) -> None:
    """Once; what is sent says what the row says, with the time of its message's oldest."""
    packed = Consignment(LANE)
    for row in rows:
        packed.add(row)
    packed.finish()
    assert sorted([*packed.sent, *packed.refused]) == [row.number for row in rows]
    assert [letter.version for letter in packed.letters] == packed.refused
    found: Counter[int] = Counter()
    by_number = {row.number: row for row in rows}
    for message in packed.messages:
        headers, job = opened(message.payload)
        assert 1 <= message.items <= MAX_ITEMS
        assert headers["embedq_outbox"] is True
        assert headers["embedq_enqueued_at"] == min(item["version"] for item in job["items"])
        assert len(json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode()) <= MAX_MESSAGE_BYTES
        for item in job["items"]:
            row = by_number[item["version"]]
            assert (item["id"], item.get("text"), job.get("source")) == (row.id, row.text, row.source)
            found[row.number] += 1
    assert found == Counter(packed.sent)


def opened(payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers and job."""
    envelope = json.loads(payload)
    return envelope["headers"], json.loads(base64.b64decode(envelope["body"]))[1]["job"]


@given(st.floats(1, 1e6), st.integers(0, 5), st.none() | st.floats(0, 1e6))
def test_nothing_is_sent_again_while_its_message_may_wait(
    resend: float, length: int, oldest: float | None
) -> None:
    """Only what was sent before everything in the queue, and long enough ago."""
    age = age_to_resend(resend, Queue(length=length, oldest=oldest, items=None))
    assert age >= resend
    if length:
        assert oldest is None or age > oldest
        assert oldest is not None or age == float("inf")
    else:
        assert age == resend


@given(st.none() | st.binary(max_size=30) | st.integers(0, 10**25).map(lambda number: str(number).encode()))
def test_only_an_epoch_is_read_as_one(value: bytes | None) -> None:
    """Whatever somebody wrote there: it fits Postgres, or it is none."""
    epoch = epoch_in(value)
    assert epoch is None or 0 <= epoch < 10**18
    assert (epoch is None) or epoch == int(value or b"")
