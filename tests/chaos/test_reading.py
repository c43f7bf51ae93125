"""What is read of dead letters."""

from __future__ import annotations

from embedq.contract import Item
from embedq.items import encode_item
from embedq.messages import job_message
from embedq.packing import Packer
from tests.chaos.reading import items_of


def test_the_items_of_a_whole_message() -> None:
    """A message that is a dead letter as it was sent says which items it had."""
    packer = Packer("docs", "chaos")
    for item in (Item("a", "text of a", version=3), Item("b", version=4, deleted=True)):
        packer.add(item.id, encode_item(item))
    job = packer.rest()
    assert job is not None
    message = job_message("docs", "embedq.docs", job.body, job.items, 0.0)
    assert items_of(message.payload.decode()) == [("a", 3), ("b", 4)]


def test_what_is_not_a_job_has_no_items() -> None:
    """Nothing is guessed."""
    for payload in (None, "", "[]", "{}", '{"body": "x"}', '{"body": "W10="}'):
        assert items_of(payload) == []
