"""The books of what is in hand: what Redis has to be told, and how much of each queue there is."""

from __future__ import annotations

from embedq_worker.intake.in_hand import InHand


def tag(number: int, queue: str = "embedq.docs") -> str:
    """A message's tag, as ``fetch.lua`` makes it."""
    return f"host-1-ab:{queue}:{number:010d}.00001"


def with_messages(*numbers: int) -> InHand:
    """Some messages of ten bytes."""
    in_hand = InHand()
    for number in numbers:
        in_hand.take(tag(number), "embedq.docs", 10)
    return in_hand


def test_an_acknowledgement_waits_for_its_confirmation() -> None:
    """The room is free at once."""
    in_hand = with_messages(1, 2)
    in_hand.settle(tag(1))
    assert in_hand.load("embedq.docs").messages == 1
    assert in_hand.unconfirmed(9) == [tag(1)]
    assert in_hand.recorded == 2
    in_hand.confirm([tag(1)])
    assert not in_hand.has_news
    assert in_hand.recorded == 1


def test_what_goes_back_is_held_until_it_is_back() -> None:
    """In the order of the fetches, whatever the order in which it was given up."""
    in_hand = with_messages(1, 2, 3)
    for number in (3, 1):
        in_hand.give_back(tag(number))
    assert in_hand.has_news
    assert in_hand.returning == [tag(1), tag(3)]
    assert in_hand.total.messages == 3
    in_hand.let_go([tag(1), tag(3)])
    assert list(in_hand) == [tag(2)]
    assert not in_hand.returning


def test_strangers_are_neither_settled_nor_given_back() -> None:
    """A tag that is not in hand is nobody's business."""
    in_hand = with_messages(1)
    in_hand.settle(tag(9))
    in_hand.give_back(tag(9))
    assert not in_hand.has_news


def test_strays_are_what_redis_knows_and_we_do_not() -> None:
    """Not what waits for its confirmation."""
    in_hand = with_messages(1, 2)
    in_hand.settle(tag(2))
    assert in_hand.strays([tag(1), tag(2), tag(3)]) == [tag(3)]


def test_a_tag_says_its_queue() -> None:
    """Also one with colons."""
    assert InHand().queue_of(tag(1, "embedq:default")) == "embedq:default"


def test_empty_hands_have_nothing_to_tell() -> None:
    """Only then may suspects be taken."""
    in_hand = with_messages(1)
    assert not in_hand.is_empty
    in_hand.settle(tag(1))
    assert not in_hand.is_empty
    in_hand.confirm([tag(1)])
    assert in_hand.is_empty
