"""Processes that are killed, stopped and not heard."""

from __future__ import annotations

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import Meter, bulk_world, fleet
from tests.simulation.service import Service
from tests.simulation.size import Size
from tests.simulation.world import World

_LEASE = 5.0
_WARM = 3.0
_STOP_EVERY = 15.0
_LOOK = 0.05


class Graveyard:
    """Follows the leases of the dead: how long each stays, and how many of the other slots are in use."""

    def __init__(self, where: Fleet, world: World) -> None:
        self.longest = 0.0
        self.used: list[float] = []
        self._where = where
        self._world = world
        self._died_at: dict[str, float] = {}

    def kill_one(self) -> None:
        """A random process dies; another one starts a little later."""
        process = self._where.any_process()
        self._died_at[process.name] = self._where.agenda.now
        self._where.kill(process)
        self._where.agenda.after(0.5, self._start_one)

    def _start_one(self) -> None:
        self._where.start([self._world])

    def stop_one(self) -> None:
        """A random process stops for two leases."""
        self._where.any_process().stop(2 * _LEASE)

    def look(self) -> None:
        """What is leased to whom now."""
        now = self._where.agenda.now
        dead = 0
        for holder in self._where.server.leases(self._world.name):
            process = holder.partition("/")[0]
            if process in self._died_at:
                self.longest = max(self.longest, now - self._died_at[process])
            running = self._where.processes.get(process)
            dead += running is None or not running.is_running
        if now > _WARM:
            self.used.append(
                min(1.0, self._world.audit.live.value / max(1, self._world.limits.max_concurrency - dead))
            )


def run(url: str, size: Size) -> list[Report]:
    """One dies each second, one stops for two leases every 15 s, one exchange in 500 finds no answer."""
    report = Report(
        f"kills: {size.kill_processes} processes, limit {size.kill_limit}, lease {_LEASE:.0f} s, "
        "one SIGKILL a second, SIGSTOP for two leases every 15 s, one exchange in 500 lost"
    )
    with fleet(url, size.seed, lease=_LEASE, loss=0.002) as where:
        world = bulk_world(where, "mortal", Limits(size.kill_limit), Service(where.agenda, where.rng))
        graves = Graveyard(where, world)
        where.start_all(size.kill_processes, [world], within=0.5)
        where.agenda.every(1.0, graves.kill_one)
        where.agenda.every(_STOP_EVERY, graves.stop_one)
        where.agenda.every(_LOOK, graves.look)
        where.agenda.run(_WARM)
        meter = Meter(where, world)
        where.agenda.run(_WARM + size.kill_seconds)
        used = sum(graves.used) / len(graves.used)
        report.add(
            "a dead holder's slot was kept for at most, s", graves.longest, "{:.2f}", at_most=_LEASE + 1
        )
        report.add("slots that no dead holder keeps, in use", used, "{:.1%}", at_least=0.95)
        report.add("all slots, in use", meter.utilisation(world), "{:.1%}")
        report.add("grants not used", world.unused / world.granted, "{:.2%}")
        report.add_promises(world)
        meter.add_redis(report)
    return [report]
