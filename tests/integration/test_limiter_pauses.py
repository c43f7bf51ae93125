"""Cool-downs and the breaker: what one process hears of a service holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from embedq_worker.allowance import Allowance
from embedq_worker.limiter.exchange import CallOutcome, Limits
from tests.support.fleet import ANSWERED, BULK, LIVE, UNUSED, Endless, Fleet, Process, at

KEY = "the key is refused"
DOWN = "HTTP 500"
EIGHT = Limits(8, concurrency="fixed")
REFUSED = CallOutcome("refused", why=KEY)
FAILED = CallOutcome("failed", why=DOWN)
NEUTRAL = CallOutcome("neutral")


def busy(fleet: Fleet, number: int, limits: Limits = EIGHT, model: str = "m") -> list[Process]:
    """So many processes, each with one call in flight."""
    found = [fleet.process(limits, model) for _ in range(number)]
    for process in found:
        process.want(1)
    fleet.settle()
    assert all(process.holding for process in found)
    return found


def all_want(processes: Sequence[Process], calls: int = 5) -> None:
    """Everybody wants more."""
    for process in processes:
        process.want(calls)


def granted(fleet: Fleet, since: float) -> list[float]:
    """When calls were granted after that."""
    return [at(grant) for _, grant in fleet.grants if at(grant) > since]


def reported(fleet: Fleet, what: str) -> list[str]:
    """What processes were told to say."""
    return [said for _, _, reply in fleet.replies if (said := getattr(reply, what))]


def cool(fleet: Fleet, process: Process, seconds: float) -> float:
    """One call is answered with 429 and Retry-After; returns when that was told."""
    process.end(process.holding[0], CallOutcome("throttled", why="429", cool=seconds * 1000))
    fleet.settle()
    return told_at(fleet, process)


def told_at(fleet: Fleet, process: Process) -> float:
    """When a process spoke last."""
    return max(when for when, who, _ in fleet.replies if who is process)


def test_retry_after_holds_for_every_process(broker_url: str) -> None:
    """Seven seconds without a call of that model, and then it goes on within 50 ms."""
    with Fleet(broker_url) as fleet:
        processes = busy(fleet, 3)
        all_want(processes[1:], 0)
        told = cool(fleet, processes[0], 7)
        all_want(processes)
        fleet.run(10)
        after = granted(fleet, told)
    assert 7.0 <= after[0] - told < 7.05


def test_other_models_are_not_affected(broker_url: str) -> None:
    """They go on meanwhile."""
    with Fleet(broker_url) as fleet:
        cool(fleet, busy(fleet, 1, model="a")[0], 7)
        process = fleet.process(EIGHT, "b")
        process.want(1)
        fleet.settle()
        assert process.holding


def test_one_process_has_the_alarm(broker_url: str) -> None:
    """When a cool-down is over, one process asks at that moment, and not all that wait."""
    with Fleet(broker_url) as fleet:
        processes = busy(fleet, 6, Limits(6, concurrency="fixed"))
        told = cool(fleet, processes[0], 7.5)
        all_want(processes, 1)
        fleet.run(7.0)
        quiet = told + 7.5
        fleet.run(quiet + 0.001 - fleet.now)
        asked = [who.name for when, who, _ in fleet.replies if quiet - 0.002 <= when]
        assert len(asked) == 1
        fleet.run(0.05)
        assert granted(fleet, told)[0] - quiet < 0.002


def test_another_asks_when_the_process_with_the_alarm_is_dead(broker_url: str) -> None:
    """Within about a second, also when it died just before."""
    with Fleet(broker_url) as fleet:
        processes = busy(fleet, 4)
        told = cool(fleet, processes[0], 7.5)
        all_want(processes)
        fleet.run(7.2)
        keeper = fleet.state()["alarm_by"]
        next(process for process in processes if process.name == keeper).is_up = False
        fleet.run(3)
        assert 7.5 <= granted(fleet, told)[0] - told < 8.6


def test_who_wants_nothing_any_more_does_not_keep_the_alarm(broker_url: str) -> None:
    """It would not ask: the alarm goes to one that waits."""
    with Fleet(broker_url) as fleet:
        *processes, cooled = busy(fleet, 3)
        told = cool(fleet, cooled, 7.6)
        all_want(processes)
        fleet.run(7.2)
        names = {process.name: process for process in processes}
        keeper = names.pop(fleet.state()["alarm_by"])
        keeper.want(0)
        keeper.end_all()
        (other,) = names.values()
        fleet.run(3)
        assert granted(fleet, told)[0] - told < 7.65
        assert other.holding


def test_a_wish_longer_than_five_minutes_is_cut(broker_url: str) -> None:
    """A wrong Retry-After must not stop a model for a day."""
    with Fleet(broker_url) as fleet:
        processes = busy(fleet, 1)
        told = cool(fleet, processes[0], 86_400)
        all_want(processes)
        fleet.run(310)
        assert 300.0 <= granted(fleet, told)[0] - told < 300.1


def test_a_shorter_wish_does_not_cut_a_longer_one(broker_url: str) -> None:
    """Calls that were in flight together are told different things."""
    with Fleet(broker_url) as fleet:
        first, second = busy(fleet, 2)
        told = cool(fleet, first, 5)
        cool(fleet, second, 1)
        all_want([first, second])
        fleet.run(8)
        assert granted(fleet, told)[0] - told >= 5.0


@pytest.mark.parametrize(
    ("allowance", "pause"),
    [
        (Allowance(remaining_requests=0, requests_reset=3.0), 3.0),
        (Allowance(limit_requests=10, remaining_requests=0, requests_reset=6.0), 0.6),
        (Allowance(limit_tokens=1000, remaining_tokens=0, tokens_reset=6.0), 0.6),
        (Allowance(remaining_requests=1, requests_reset=60.0), 0.0),
        (Allowance(remaining_requests=0), 0.0),
        (Allowance(), 0.0),
    ],
)
def test_what_a_service_has_left(broker_url: str, allowance: Allowance, pause: float) -> None:
    """Too little for one more call like this one: until it has enough; unknown: go on."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(EIGHT)
        process.want(1, tokens=100)
        fleet.settle()
        process.end(process.holding[0], CallOutcome("answered", allowance=allowance))
        fleet.settle()
        told = told_at(fleet, process)
        process.want(1, tokens=100)
        fleet.run(70)
        waited = granted(fleet, told)[0] - told
    assert pause <= waited < pause + 0.1


def test_a_refusal_pauses_all(broker_url: str) -> None:
    """One process says so; each pause is twice the last, from two seconds to a minute; one call at a time."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.1)
        endless.outcome = lambda *_: REFUSED
        for _ in range(4):
            endless.add(fleet.process(EIGHT))
        fleet.run(300)
        first = [at(grant) for _, grant in fleet.grants if at(grant) < 1]
        probes = granted(fleet, 1)
        assert len(first) <= 8
        assert reported(fleet, "opened") == [KEY]
        assert reported(fleet, "closed") == []
        assert {reply.paused for _, _, reply in fleet.replies[-4:]} == {KEY}
    pauses = [later - before - 0.1 for before, later in pairwise([0.0, *probes])]
    assert pauses == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60], abs=0.1)


@pytest.mark.parametrize("outcome", [ANSWERED, NEUTRAL])
def test_an_answer_to_the_probe_ends_the_pause(broker_url: str, outcome: CallOutcome) -> None:
    """For all at once, whatever is said of the text; it is said once, and the next pause is short again."""
    with Fleet(broker_url) as fleet:
        processes = refused(fleet, 3)
        all_want(processes)
        fleet.run(2.1)
        (probing,) = [process for process in processes if process.holding]
        fleet.run(1)
        assert sum(len(process.holding) for process in processes) == 1
        probing.end(probing.holding[0], outcome)
        fleet.run(0.5)
        assert sum(len(process.holding) for process in processes) == 8
        assert reported(fleet, "closed") == [KEY]
        processes[0].end_all(REFUSED)
        fleet.settle()
        assert float(fleet.state()["pause_ms"]) == 2_000


def test_calls_from_before_do_not_prolong_the_pause(broker_url: str) -> None:
    """Those in flight fail with the first; only the probe counts."""
    with Fleet(broker_url) as fleet:
        processes = busy(fleet, 5)
        for process in processes:
            process.end_all(REFUSED)
            fleet.settle()
        assert float(fleet.state()["pause_ms"]) == 2_000
        assert reported(fleet, "opened") == [KEY]


def test_an_answer_from_before_does_not_end_the_pause(broker_url: str) -> None:
    """Its call was made before the key was withdrawn."""
    with Fleet(broker_url) as fleet:
        first, second = busy(fleet, 2)
        first.end_all(REFUSED)
        fleet.settle()
        second.end_all(ANSWERED)
        fleet.settle()
        assert fleet.state()["broken"] == KEY


def test_an_unused_probe_is_anothers(broker_url: str) -> None:
    """Its texts were gone; nothing was learned, and nobody waits for it."""
    with Fleet(broker_url) as fleet:
        processes = refused(fleet, 2)
        all_want(processes)
        fleet.run(2.1)
        (probing,) = [process for process in processes if process.holding]
        probing.want(0)
        probing.end_all(UNUSED)
        fleet.settle()
        assert sum(len(process.holding) for process in processes if process is not probing) == 1
        assert float(fleet.state()["pause_ms"]) == 2_000


def test_a_dead_probe_is_replaced(broker_url: str) -> None:
    """When its lease has lapsed, another makes one."""
    with Fleet(broker_url, lease=5) as fleet:
        processes = refused(fleet, 2)
        all_want(processes)
        fleet.run(2.1)
        (probing,) = [process for process in processes if process.holding]
        started = at(probing.holding[0])
        probing.is_up = False
        fleet.run(8)
        assert 5.0 <= granted(fleet, started + 0.01)[0] - started <= 6.5


def test_a_live_probe_may_take_its_time(broker_url: str) -> None:
    """Its lease is renewed, and no second one is made."""
    with Fleet(broker_url, lease=5) as fleet:
        processes = refused(fleet, 2)
        all_want(processes)
        fleet.run(30)
        assert sum(len(process.holding) for process in processes) == 1


def test_a_service_that_is_down_is_paused(broker_url: str) -> None:
    """After ten seconds with nothing but failures, by all processes together."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.5)
        endless.outcome = lambda *_: FAILED
        for _ in range(2):
            endless.add(fleet.process(Limits(1, concurrency="fixed")))
        fleet.run(9.9)
        assert reported(fleet, "opened") == []
        fleet.run(1.5)
        assert reported(fleet, "opened") == [DOWN]


def test_one_answer_between_failures_keeps_it_open(broker_url: str) -> None:
    """A service that fails often is not down."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.2)
        endless.outcome = lambda *_: ANSWERED if len(fleet.grants) % 40 == 0 else FAILED
        endless.add(fleet.process(Limits(1, concurrency="fixed")))
        fleet.run(60)
        assert len(fleet.grants) > 250
        assert reported(fleet, "opened") == []


def test_few_failures_do_not_pause(broker_url: str) -> None:
    """Four calls that failed over a minute are no proof; the fifth is."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(EIGHT)
        for number in range(5):
            assert "broken" not in fleet.state(), number
            process.want(1)
            fleet.run(15)
            process.end_all(FAILED)
            fleet.settle()
        assert fleet.state()["broken"] == DOWN


def test_while_paused_no_lane_goes_on(broker_url: str) -> None:
    """The reason is told to whoever waits."""
    with Fleet(broker_url) as fleet:
        process = refused(fleet, 1)[0]
        process.want(1, LIVE)
        fleet.settle()
        assert fleet.replies[-1][2].why == "paused"
        assert process.position.paused == KEY
        assert process.position.paused_until > fleet.now + 0.5
        assert not process.holding
        fleet.run(2.5)
        assert process.holding


def test_a_retry_after_of_a_refusal_holds(broker_url: str) -> None:
    """Where it is longer than the pause."""
    with Fleet(broker_url) as fleet:
        process = busy(fleet, 1)[0]
        process.end_all(CallOutcome("refused", why="no credits", cool=30_000))
        fleet.settle()
        told = told_at(fleet, process)
        process.want(1, BULK)
        fleet.run(40)
        assert 30.0 <= granted(fleet, told)[0] - told < 30.1


def test_any_words_may_be_the_reason(broker_url: str) -> None:
    """Also those that look like a number."""
    with Fleet(broker_url) as fleet:
        process = busy(fleet, 1)[0]
        process.end_all(CallOutcome("refused", why="401"))
        fleet.settle()
        process.want(1)
        fleet.settle()
        assert process.position.paused == "401"


def refused(fleet: Fleet, number: int) -> list[Process]:
    """So many processes, just paused by a refusal, without calls in flight."""
    processes = busy(fleet, number)
    for process in processes:
        process.end_all(REFUSED)
    fleet.settle()
    assert fleet.state()["broken"] == KEY
    return processes
