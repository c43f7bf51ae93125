"""Whether a process turns, and whether it can work."""

from __future__ import annotations

from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.errors import DatabaseAway, NotMigrated
from embedq_worker.store.postgres.outage import Outage

PATIENCE = 30.0


class Bed:
    """A process on virtual time: what works beats once a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hub = Pulse(lambda: self.now)
        self.redis = Pulse(lambda: self.now)
        self.outage = Outage(lambda: self.now)
        self.health = Health(patience=PATIENCE, hub=self.hub, redis=self.redis, outage=self.outage)

    def run(self, seconds: int, *, hub: bool = True, redis: bool = True) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.now += 1
            if hub:
                self.hub.beat()
            if redis:
                self.redis.beat()
            else:
                self.redis.miss()


def test_a_process_that_turns_is_well() -> None:
    """For as long as it likes."""
    bed = Bed()
    bed.run(100)
    assert bed.health.not_live() == bed.health.not_ready() == []


def test_a_process_is_ready_when_it_has_begun() -> None:
    """With what it waits for as the only reason, if there is one."""
    bed = Bed()
    begun: list[bool] = []
    health = Health(
        patience=PATIENCE, hub=bed.hub, redis=bed.redis, outage=bed.outage, has_begun=lambda: bool(begun)
    )
    assert health.not_live() == []
    assert health.not_ready() == ["the worker is starting: it has not read the collections yet"]
    bed.outage.failed("reading the collections", NotMigrated())
    assert health.not_ready() == [str(NotMigrated())]
    bed.outage.over("reading the collections")
    begun.append(True)
    assert health.not_ready() == []


def test_a_hub_that_stands_still_is_not_live() -> None:
    """After the patience is over, with how long it has stood."""
    bed = Bed()
    bed.run(30, hub=False)
    assert bed.health.not_live() == []
    bed.run(1, hub=False)
    (reason,) = bed.health.not_live()
    assert "the hub thread has stood still for 31 s" in reason
    assert bed.health.not_ready() == [reason]
    bed.run(1)
    assert bed.health.not_live() == []


def test_a_hub_that_waits_for_redis_is_live() -> None:
    """For hours; but once Redis is back it has to turn again: a reconnect that hangs is found."""
    bed = Bed()
    bed.run(7200, hub=False, redis=False)
    assert bed.health.not_live() == []
    assert "Redis has not answered for 7200 s" in bed.health.not_ready()[0]
    bed.run(31, hub=False)
    assert bed.health.not_live() == []
    bed.run(1, hub=False)
    assert len(bed.health.not_live()) == 1


def test_a_process_that_cannot_write_is_live_and_not_ready() -> None:
    """And says why."""
    bed = Bed()
    bed.outage.failed("writing rows", DatabaseAway("the disk is full"))
    assert bed.health.not_live() == []
    assert bed.health.not_ready() == ["the disk is full"]


def test_a_process_that_drains_is_live_and_not_ready() -> None:
    """Its hub has done its work."""
    bed = Bed()
    bed.health.is_draining = True
    bed.run(60, hub=False)
    assert bed.health.not_live() == []
    assert bed.health.not_ready() == ["the worker is draining: it was told to stop"]
