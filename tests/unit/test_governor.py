"""The governor gives each queue room of its own, in fair turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.intake.governor import Governor, Window
from embedq_worker.intake.in_hand import InHand

QUEUES = ["embedq.a", "embedq.b", "embedq.a.bulk", "embedq.b.query"]


def governor(messages: int = 10, items: int = 100, size: int = 10_000) -> Governor:
    """A governor with nothing in hand."""
    return Governor(Window(messages, items, size), InHand())


def test_lanes_are_served_in_order() -> None:
    """``query`` before ``live`` before ``bulk``."""
    turns = [queue for queue, _ in governor().next_fetch(QUEUES)]
    assert turns[0] == "embedq.b.query"
    assert set(turns[1:3]) == {"embedq.a", "embedq.b"}
    assert turns[3] == "embedq.a.bulk"


def test_turns_go_round() -> None:
    """Each queue of a lane comes first in its turn."""
    fair = governor()
    queues = ["embedq.a", "embedq.b", "embedq.c"]
    firsts = [fair.next_fetch(queues)[0][0] for _ in range(6)]
    assert sorted(firsts) == sorted(queues * 2)


def test_a_queue_without_room_is_skipped() -> None:
    """One queue's full window does not take another's room."""
    full = governor(messages=2)
    for number in range(2):
        full.in_hand.take(f"t{number}", "embedq.a", 10)
    assert full.room("embedq.a") == 0
    assert full.room("embedq.b") > 0
    assert [queue for queue, _ in full.next_fetch(["embedq.a", "embedq.b"])] == ["embedq.b"]


def test_room_comes_back_when_a_message_is_settled() -> None:
    """Room is freed by the settling, not by the acknowledgement's confirmation."""
    full = governor(messages=1)
    full.in_hand.take("t", "embedq.a", 10)
    assert not full.has_room(["embedq.a"])
    full.in_hand.settle("t")
    assert full.has_room(["embedq.a"])
    assert full.in_hand.unconfirmed(10) == ["t"]


def test_it_learns_how_many_items_a_message_has() -> None:
    """Messages of one item are fetched by the window's messages, full ones by its items."""
    learned = governor(messages=1000, items=1000, size=10**9)
    assert learned.room("embedq.a") == 1000 // 256
    for _ in range(50):
        learned.learn("embedq.a", 1, 100)
    assert learned.room("embedq.a") > 900


def test_an_empty_window_takes_one_message_of_any_size() -> None:
    """A message larger than the window still runs."""
    small = governor(items=1, size=1)
    assert small.room("embedq.a") == 1


def test_a_stopped_governor_gives_no_room() -> None:
    """A worker that shuts down fetches nothing."""
    stopped = governor()
    stopped.stop()
    assert not stopped.has_room(QUEUES)


@given(st.lists(st.tuples(st.sampled_from(["take", "settle", "let_go"]), st.integers(0, 9)), max_size=60))
def test_loads_add_up(steps: list[tuple[str, int]]) -> None:
    """Whatever comes and goes, a queue's load is the sum of what is in hand."""
    in_hand = InHand()
    model: dict[str, int] = {}
    for step, number in steps:
        tag = f"t{number}"
        if step == "take" and tag not in model:
            in_hand.take(tag, "q", number + 1)
            in_hand.count_items(tag, number + 2)
            model[tag] = number
        elif step == "settle":
            in_hand.settle(tag)
            model.pop(tag, None)
        elif step == "let_go":
            in_hand.let_go([tag])
            model.pop(tag, None)
    load = in_hand.load("q")
    assert load.messages == len(in_hand) == len(model)
    assert load.size == sum(number + 1 for number in model.values())
    assert load.items == sum(number + 2 for number in model.values())


def test_a_crowded_process_keeps_a_part_for_each_queue() -> None:
    """Many paused collections fill the process; another one's queue still has room, if little."""
    crowded = governor(messages=64, items=64, size=10_000)
    for number in range(8 * 64):
        crowded.learn(f"embedq.c{number % 8}", 1, 1)
        crowded.in_hand.take(f"t{number}", f"embedq.c{number % 8}", 1)
    for _ in range(100):
        crowded.learn("embedq.free", 1, 1)
    assert [crowded.room(f"embedq.c{number}") for number in range(8)] == [0] * 8
    assert 1 <= crowded.room("embedq.free") <= 4
    for number in range(0, 64, 8):
        crowded.in_hand.settle(f"t{number}")
    assert crowded.room("embedq.c0") > 4
