"""What becomes of a dead worker's messages, by the scripts alone: suspects, parts, killers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import count

import pytest
import redis

from embedq_worker import names
from embedq_worker.store.fleet.backlog import purge, waiting
from tests.support.hands import FakeWorker

QUEUE = "embedq.docs"


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


def fill(broker: redis.Redis, number: int, queue: str = QUEUE) -> None:
    """Queue messages ``0``, ``1``, …, the first to be fetched first."""
    broker.lpush(queue, *[str(each) for each in range(number)])


def worker(broker: redis.Redis, name: str, queue: str = QUEUE) -> FakeWorker:
    """A process with a lease."""
    made = FakeWorker(broker, name, queue)
    made.beat()
    broker.delete(names.AMNESTY)
    return made


def test_a_dead_worker_is_taken_over_in_groups(broker: redis.Redis) -> None:
    """None of its messages goes back to the queue; each group has one queue and keeps the order."""
    fill(broker, 300)
    dead, alive = worker(broker, "dead"), worker(broker, "alive")
    dead.fetch(300)
    dead.die()
    assert alive.take_over() == [(128, "suspects"), (128, "suspects"), (44, "suspects"), (0, "done")]
    assert broker.llen(QUEUE) == 0
    assert broker.hlen(names.UNACKED) == broker.zcard(names.INDEX) == 300  # not done
    assert broker.llen(names.SUSPECTS) == 3
    assert alive.claim()
    assert list(alive.take_suspects().values()) == [str(each).encode() for each in range(128)]


def test_a_live_worker_is_left_alone(broker: redis.Redis) -> None:
    """Whatever it holds."""
    fill(broker, 5)
    busy, other = worker(broker, "busy"), worker(broker, "other")
    busy.fetch(5)
    assert other.beat() == ("renewed", False)
    assert other.take_over() == []


def test_who_was_taken_over_is_told_once(broker: redis.Redis) -> None:
    """When it comes back; it goes on as new, and its late acknowledgements do no harm."""
    fill(broker, 2)
    stopped, other = worker(broker, "stopped"), worker(broker, "other")
    tags = tuple(stopped.fetch(1))
    stopped.die()
    other.take_over()
    assert stopped.fetch(1, tags) == {}
    assert stopped.beat()[0] == "taken over"
    assert stopped.beat()[0] == "renewed"
    assert list(stopped.fetch(1, tags).values()) == [b"1"]
    assert broker.llen(names.SUSPECTS) == 1


def test_who_comes_back_while_it_is_taken_over_gets_no_lease(broker: redis.Redis) -> None:
    """What it fetched under its name would be taken too; with the rest gone it goes on as new."""
    fill(broker, 300)
    back, other = worker(broker, "back"), worker(broker, "other")
    back.fetch(300)
    back.die()
    other.take_over_once()
    assert back.beat() == ("being taken over", True)
    assert back.fetch(1) == {}
    back.take_over()
    assert back.beat()[0] == "taken over"
    assert back.beat()[0] == "renewed"


def test_a_claim_that_was_left_behind_is_nobodys(broker: redis.Redis) -> None:
    """It was made by one that had been taken over, and died."""
    fill(broker, 1)
    dead, alive = worker(broker, "dead"), worker(broker, "alive")
    dead.fetch(1)
    dead.die()
    alive.take_over()
    assert not dead.claim()
    broker.hset(names.ALONE, "long gone", "0 0")
    assert alive.claim()
    assert broker.hkeys(names.ALONE) == [b"alive"]


def test_after_an_outage_nobody_is_taken_over_for_a_lease(broker: redis.Redis) -> None:
    """Those who live could not renew."""
    fill(broker, 1)
    first, second = worker(broker, "first"), worker(broker, "second")
    first.fetch(1)
    broker.zadd(names.WORKERS, {"first": time.time() - 1, "second": time.time() - 1})
    broker.set(names.LAST_BEAT, time.time() - 100)
    assert second.beat(silence=30) == ("renewed", False)
    assert second.take_over() == []
    assert first.beat()[0] == "renewed"


def test_a_clock_that_was_set_back_keeps_no_dead_alive(broker: redis.Redis) -> None:
    """As by a failover to a slow master: all that was written before lies an hour ahead."""
    fill(broker, 1)
    dead, alive = worker(broker, "dead"), worker(broker, "alive")
    dead.fetch(1)
    ahead = time.time() + 3600
    broker.zadd(names.WORKERS, {"dead": ahead, "alive": ahead})
    for key in (names.LAST_BEAT, names.AMNESTY):
        broker.set(key, ahead)
    assert alive.beat(life=0.2) == ("renewed", False)
    time.sleep(0.25)  # Redis' own clock
    alive.beat()
    assert alive.take_over() == [(1, "suspects"), (0, "done")]


def test_queries_of_the_dead_are_dropped(broker: redis.Redis) -> None:
    """Whoever asked has given up."""
    fill(broker, 3, "embedq.docs.query")
    dead, alive = worker(broker, "dead", "embedq.docs.query"), worker(broker, "alive")
    dead.fetch(3)
    dead.die()
    assert alive.take_over() == [(3, "query"), (0, "done")]
    assert broker.llen(names.SUSPECTS) == 0


def test_half_of_the_fleet_at_most_runs_suspects(broker: redis.Redis) -> None:
    """But one at least; and nobody who does not serve their queue."""
    fill(broker, 300)
    dead = worker(broker, "dead")
    dead.fetch(300)
    dead.die()
    alone = worker(broker, "a")
    alone.take_over()
    assert not worker(broker, "stranger", "embedq.other").claim()
    assert alone.claim()
    others = [worker(broker, name) for name in "bcd"]
    assert [other.claim() for other in others] == [True, False, False]
    assert others[1].claim(is_idle=True)


def test_suspects_that_are_given_back_stay_suspects(broker: redis.Redis) -> None:
    """Also by a worker that stops."""
    fill(broker, 10)
    dead, alive = worker(broker, "dead"), worker(broker, "alive")
    dead.fetch(10)
    dead.die()
    alive.take_over()
    assert alive.claim()
    taken = alive.take_suspects()
    alive.give_back_all()
    assert broker.llen(QUEUE) == 0
    assert alive.leave()
    again = worker(broker, "again")
    assert again.claim()
    assert list(again.take_suspects().values()) == list(taken.values())


def test_who_holds_messages_does_not_leave(broker: redis.Redis) -> None:
    """They are taken over when its lease lapses."""
    fill(broker, 1)
    process = worker(broker, "p")
    process.fetch(1)
    assert not process.leave()
    process.acknowledge_all()
    assert process.leave()


def test_a_dropped_collections_suspects_are_purged(broker: redis.Redis) -> None:
    """Nobody serves their queue any more; others' stay."""
    fill(broker, 200)
    fill(broker, 3, "embedq.other")
    for name, queue in (("p", QUEUE), ("q", "embedq.other")):
        dead = worker(broker, name, queue)
        dead.fetch(200)
        dead.die()
    worker(broker, "alive").take_over()
    assert waiting(broker, "docs").in_hand == 200
    assert purge(broker, "docs") == 200
    assert not waiting(broker, "docs")
    assert broker.hlen(names.UNACKED) == broker.zcard(names.INDEX) == 3


def test_only_a_death_while_alone_counts(broker: redis.Redis) -> None:
    """One message among two is not alone; three times alone is enough."""
    fill(broker, 1)
    numbers = count()
    first = worker(broker, "first")
    first.fetch(1)
    first.die()
    worker(broker, "other").take_over()
    broker.delete(names.DEATHS)  # a minute ago
    for _ in range(3):
        process = worker(broker, f"p{next(numbers)}")
        process.take_over()
        assert process.take_killer() is None
        assert process.claim()
        assert len(process.take_suspects()) == 1
        process.die()
    undertaker = worker(broker, "undertaker")
    assert undertaker.take_over() == [(1, "killer"), (0, "done")]
    assert broker.hlen(names.UNACKED) == 1
    assert not undertaker.claim()
    assert undertaker.take_killer() == b"0"
    undertaker.acknowledge_all()
    assert broker.hlen(names.UNACKED) == 0


def test_where_workers_die_anyway_more_deaths_are_wanted(broker: redis.Redis) -> None:
    """One more for each that died of something else in the last minute; a message may have bad luck."""
    for number in range(4):
        worker(broker, f"unlucky-{number}").die()
    fill(broker, 1)
    first = worker(broker, "first")
    first.fetch(1)
    first.die()
    worker(broker, "alive").take_over()
    deaths = 0
    while not broker.llen(names.KILLERS):
        process = worker(broker, f"alone-{deaths}")
        assert process.claim()
        process.take_suspects()
        process.die()
        deaths += 1
        worker(broker, "alive").take_over()
    assert deaths == 3 + 4 + 1  # and the first, who did not hold it as a suspect


@pytest.mark.parametrize("seed", [1, 2])
def test_exactly_the_killers_are_found(broker: redis.Redis, seed: int) -> None:
    """Ten among two thousand, 1,024 in hand: a process dies of what it has in hand, and another goes on."""
    rng = random.Random(seed)
    killers = {str(each).encode() for each in rng.sample(range(2000), 10)}
    fill(broker, 2000)
    done, buried, deaths = set(), set(), 0
    numbers = count()
    process = worker(broker, "p")
    while broker.llen(QUEUE) or broker.hlen(names.UNACKED):
        if not (process.claim() and process.take_suspects()):
            process.fetch(1024)
        if killers & set(process.held.values()):
            deaths += 1
            process.die()
            process = worker(broker, f"p{next(numbers)}")
            process.take_over()
        done |= set(process.held.values())
        process.acknowledge_all()
        while (killer := process.take_killer()) is not None:
            buried.add(killer)
            process.acknowledge_all()
    assert buried == killers
    assert len(done) == 1990
    assert deaths < 150
