"""When a process runs suspects, and when it goes back to what is new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.intake.isolation import PATIENCE, REST, TURN, Isolation, Step


def begun(at: float = 0.0) -> Isolation:
    """One whose claim was granted."""
    isolation = Isolation()
    isolation.begin(at)
    return isolation


def test_it_takes_groups_while_its_hands_are_empty() -> None:
    """One after the other."""
    isolation = begun()
    assert isolation.step(1, is_empty=False) is Step.NOTHING
    assert isolation.step(2, is_empty=True) is Step.TAKE
    isolation.taken(2)
    assert isolation.step(3, is_empty=False) is Step.NOTHING
    assert isolation.step(4, is_empty=True) is Step.TAKE


def test_without_a_group_it_is_free_at_once() -> None:
    """And may claim again."""
    isolation = begun()
    isolation.taken(1)
    isolation.end(2)
    assert not isolation.is_on
    assert isolation.may_begin(2)


def test_hands_that_do_not_empty_end_the_claim() -> None:
    """A call that hangs must not keep the process from all others."""
    isolation = begun()
    assert isolation.step(TURN + 1, is_empty=False) is Step.LEAVE


def test_a_turn_ends() -> None:
    """What waits is given back once, calls in flight end; then the process owes others as much time."""
    isolation = begun()
    isolation.taken(10)
    late = 10 + TURN + 1
    assert isolation.step(late, is_empty=False) is Step.RETURN
    assert isolation.step(late + 1, is_empty=False) is Step.NOTHING
    assert isolation.step(late + 2, is_empty=True) is Step.LEAVE
    isolation.end(late + 2)
    assert not isolation.may_begin(late + 3)
    assert isolation.may_begin(late + 2 + TURN + 3)


def test_a_group_that_waits_for_money_goes_back_and_the_next_is_taken() -> None:
    """After what needs no call is done; the turn goes on with the suspects of others."""
    isolation = begun()
    isolation.taken(1)
    late = 1 + PATIENCE + 0.1
    assert isolation.step(1 + PATIENCE / 2, is_empty=False, is_held=True) is Step.NOTHING
    assert isolation.step(late, is_empty=False, is_held=False) is Step.NOTHING
    assert isolation.step(late, is_empty=False, is_held=True) is Step.RETURN
    assert isolation.step(late + 1, is_empty=False, is_held=True) is Step.NOTHING
    assert isolation.step(late + 2, is_empty=True, is_held=True) is Step.TAKE
    isolation.taken(late + 2)
    assert isolation.step(late + 3, is_empty=False, is_held=True) is Step.NOTHING
    assert isolation.step(late + 3 + PATIENCE, is_empty=False, is_held=True) is Step.RETURN
    isolation.end(late + 9)
    assert isolation.may_begin(late + 9)


def test_queues_that_wait_for_money_are_left_alone_for_a_while() -> None:
    """Others are not; later it is tried again, as nobody else may try a paused model."""
    isolation = Isolation()
    isolation.rest(["held"], 10)
    assert isolation.runnable(["held", "rich"], 10) == ["rich"]
    assert isolation.runnable(["held", "rich"], 10 + REST) == ["held", "rich"]


def test_a_change_of_budgets_ends_the_rest() -> None:
    """What waited for money may have some."""
    isolation = Isolation()
    isolation.rest(["held"], 10)
    isolation.wake()
    assert isolation.runnable(["held"], 10) == ["held"]


def test_hands_that_never_empty_do_not_keep_a_process_for_ever() -> None:
    """After two turns it goes on with what is new, whatever hangs."""
    isolation = begun()
    isolation.taken(0)
    assert isolation.step(TURN + 1, is_empty=False) is Step.RETURN
    assert isolation.step(2 * TURN + 1, is_empty=False) is Step.LEAVE


def test_a_denied_claim_is_not_made_again_at_once() -> None:
    """Each fetch tells of suspects; not each is a reason to ask."""
    isolation = Isolation()
    isolation.denied(10)
    assert not isolation.may_begin(10.5)
    assert isolation.may_begin(11)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_it_never_takes_with_something_in_hand_and_always_ends(moments: list[tuple[float, bool]]) -> None:
    """Whatever the hands do, after a turn there is no further group."""
    isolation, now, first = begun(), 0.0, None
    for passed, is_empty in moments:
        now += passed
        step = isolation.step(now, is_empty)
        if step is Step.TAKE:
            assert is_empty
            first = now if first is None else first
            assert now - first <= TURN
            isolation.taken(now)
        elif step is Step.LEAVE:
            isolation.end(now)
            assert not isolation.is_on
            return
