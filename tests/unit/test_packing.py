"""Packing: limits kept, nothing lost, order kept."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.contract import MAX_ITEMS, MAX_MESSAGE_BYTES, Item, Job
from embedq.errors import InvalidItem
from embedq.items import encode_item
from embedq.packing import PackedJob, Packer


def pack(items: list[Item], source: str | None = None) -> list[PackedJob]:
    """All the jobs that the items are packed into."""
    packer = Packer("docs", source)
    jobs = [packer.add(item.id, encode_item(item)) for item in items]
    return [job for job in [*jobs, packer.rest()] if job is not None]


def unpacked(jobs: list[PackedJob]) -> list[Item]:
    """The items of the jobs, in order."""
    return [item for job in jobs for item in msgspec.json.decode(job.body, type=Job).items]


texts = st.one_of(
    st.text(min_size=1, max_size=20),
    st.integers(1, 400_000).map(lambda length: "é" * length),
)


@given(st.lists(texts, max_size=30), st.none() | st.text(min_size=1, max_size=20))
def test_every_item_arrives_once_and_in_order(given_texts: list[str], source: str | None) -> None:
    """Jobs hold all items in their order, none is empty or over the limits, and each names its source."""
    items = [Item(str(number), text, number) for number, text in enumerate(given_texts)]
    jobs = pack(items, source)

    assert unpacked(jobs) == items
    assert all(0 < job.items <= MAX_ITEMS and len(job.body) <= MAX_MESSAGE_BYTES for job in jobs)
    assert all(msgspec.json.decode(job.body, type=Job).source == source for job in jobs)


def test_jobs_are_filled_to_256_items() -> None:
    """Small items go 256 to a job; the count beside the body is true."""
    jobs = pack([Item(str(number), "text") for number in range(600)])

    assert [job.items for job in jobs] == [256, 256, 88]
    assert [len(msgspec.json.decode(job.body, type=Job).items) for job in jobs] == [256, 256, 88]


def test_jobs_are_filled_to_one_mebibyte() -> None:
    """An item joins the job as long as the whole stays within the limit, to the byte."""
    empty = len(msgspec.json.encode(Job(1, "docs", [])))
    overhead = len(encode_item(Item("1", "")))
    half = (MAX_MESSAGE_BYTES - empty - 1 - 2 * overhead) // 2
    odd = (MAX_MESSAGE_BYTES - empty - 1) % 2
    exact = [Item("1", "x" * half), Item("2", "x" * (half + odd))]
    over = [Item("1", "x" * half), Item("2", "x" * (half + odd + 1))]

    assert [len(job.body) for job in pack(exact)] == [MAX_MESSAGE_BYTES]
    assert [job.items for job in pack(over)] == [1, 1]


def test_each_job_has_the_whole_limit() -> None:
    """What a job before it held does not count against the next one."""
    assert [job.items for job in pack([Item(str(number), "x" * 400_000) for number in range(6)])] == [2, 2, 2]


def test_the_largest_item_fits_and_one_byte_more_is_refused() -> None:
    """The limit holds for the whole job as UTF-8 JSON; after the refusal the packer goes on."""
    room = MAX_MESSAGE_BYTES - len(msgspec.json.encode(Job(1, "docs", [Item("1", "")])))
    assert len(pack([Item("1", "x" * room)])[0].body) == MAX_MESSAGE_BYTES

    packer = Packer("docs")
    with pytest.raises(InvalidItem, match=r"item '1'.*item_too_large") as refused:
        packer.add("1", encode_item(Item("1", "x" * (room + 1))))
    assert refused.value.rule == "item_too_large"
    packer.add("2", encode_item(Item("2", "text")))
    rest = packer.rest()

    assert rest is not None
    assert unpacked([rest]) == [Item("2", "text")]
