"""The broker's clock and its versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from embedq.clock import REMEASURE_SECONDS, BrokerClock


class Local:
    """A local clock that the test moves."""

    def __init__(self, now: int = 1_000) -> None:
        self.now = now

    def __call__(self) -> int:
        """Microseconds."""
        return self.now


def measure(clock: BrokerClock, answers: Iterable[int]) -> None:
    """Measure against a broker that answers with these microseconds."""
    steps = clock.measure()
    with suppress(StopIteration):
        next(steps)
        for microseconds in answers:
            steps.send(divmod(microseconds, 1_000_000))


@given(st.lists(st.integers(-(10**12), 10**15), min_size=1, max_size=50))
def test_versions_increase_strictly_whatever_the_broker_says(broker_times: list[int]) -> None:
    """A broker whose clock jumps back never gets an equal or lower version out of one producer."""
    clock = BrokerClock(Local())
    versions = []
    for broker_time in broker_times:
        measure(clock, [broker_time] * 3)
        versions += [clock.next_version(), clock.next_version()]

    assert versions == sorted(set(versions))


def test_a_version_is_the_brokers_time() -> None:
    """With a measured offset the version is the broker's microseconds, not the host's."""
    local = Local()
    clock = BrokerClock(local)
    measure(clock, [5_000_000] * 3)
    local.now += 250

    assert clock.now() == 5_000_250
    assert clock.next_version() == 5_000_250


def test_half_of_the_shortest_round_trip_is_corrected() -> None:
    """Of samples with long and short round trips the short one decides, and half of it is taken off."""
    local = Local(0)

    def answers() -> Iterator[int]:
        for trip in (10_000, 200, 4_000):
            asked = local.now
            local.now += trip
            # An honest broker read its clock in the middle; a slow answer came back late on one way only.
            yield asked + (100 if trip == 200 else 0) + 1_000_000

    clock = BrokerClock(local)
    measure(clock, answers())

    assert clock.now() == local.now + 1_000_000


def test_the_offset_grows_stale() -> None:
    """It is stale before the first measurement and again after a minute."""
    local = Local()
    clock = BrokerClock(local)
    assert clock.stale

    measure(clock, [0] * 3)
    fresh = not clock.stale
    assert fresh

    local.now += int(REMEASURE_SECONDS * 1e6) + 1
    assert clock.stale


def test_threads_never_share_a_version() -> None:
    """Eight threads on a clock that stands still get as many versions as they asked for."""
    clock = BrokerClock(Local())

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: clock.next_version(), range(4_000)))

    assert len(set(versions)) == 4_000
