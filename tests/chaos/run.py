"""One run: a load under deeds, the wait for what is left, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import redis

from tests.chaos import billing, checker, reading
from tests.chaos.billing import Bills
from tests.chaos.checker import Found
from tests.chaos.crew import Crew
from tests.chaos.deeds import Deeds
from tests.chaos.history import History
from tests.chaos.load import Enqueue
from tests.chaos.options import Options
from tests.chaos.producing import Producing
from tests.chaos.report import Report
from tests.chaos.world import World

_LOOK_EVERY = 0.2
_SURE = 3
"""Looks in a row that find nothing queued or in hand: a message that changes hands is seen by one of them."""
_NO_DEEDS = ("enqueue", "left", "start", "continue", "valkey start", "postgres start")


def run(world: World, folder: Path, options: Options, calls: Sequence[Enqueue]) -> Report:
    """Enqueue ``calls`` while the deeds are done, wait for the rest, and check everything."""
    changes = "" if options.sabotage is None else f"tests.chaos.saboteur:{options.sabotage}"
    with History(folder) as history:
        crew = Crew(options.workers, world.environment, folder=folder, history=history, changes=changes)
        producing = Producing(
            world.valkey.url, calls, rate=options.rate, history=history, outages=lambda: world.outages
        )
        deeds = Deeds(world, crew, history, options)
        with crew:
            crew.wait_until_ready()
            _work(world, producing, deeds, history, options)
            left = _settle(world, options.settle)
        report = _report(world, producing, deeds, left, history, folder, crew)
        history.note("outcome", line=report.line, broken=report.broken)
    return report


def _work(world: World, producing: Producing, deeds: Deeds, history: History, options: Options) -> None:
    """Until everything is enqueued and done, or the time is up."""
    until = time.monotonic() + options.minutes * 60
    producing.start()
    deeds.start()
    try:
        while time.monotonic() < until and not deeds.is_over:
            left = _left(world)
            history.note("left", messages=left)
            if producing.is_over and left == 0:
                break
            time.sleep(_LOOK_EVERY)
    finally:
        try:
            deeds.stop()
        finally:
            producing.stop()


def _left(world: World) -> int | None:
    """Messages that are not done; None while Valkey is away."""
    try:
        return world.pending()
    except redis.RedisError:
        return None


def _settle(world: World, seconds: float) -> int:
    """Wait until nothing is left; returns how many messages still are."""
    until, looks, left = time.monotonic() + seconds, 0, world.pending()
    while looks < _SURE and time.monotonic() < until:
        left = world.pending()
        looks = 0 if left else looks + 1
        time.sleep(_LOOK_EVERY)
    return left


def _report(
    world: World, producing: Producing, deeds: Deeds, left: int, history: History, folder: Path, crew: Crew
) -> Report:
    found = reading.read(world.database_url)
    return Report(
        verdict=checker.check(producing.asked.values(), found),
        billing=billing.judge(
            _bills(world, producing.pushed_once(), found), world.api.calls(), deeds.disturbances
        ),
        left=left,
        seconds=time.monotonic() - history.began,
        deeds={name: times for name, times in history.counts.items() if name not in _NO_DEEDS},
        folder=folder,
        complaints=crew.complaints,
    )


def _bills(world: World, texts: Sequence[str], found: Found) -> list[Bills]:
    """The texts that were billed more than once."""
    again = [text for text, times in zip(texts, world.api.billed(texts), strict=True) if times > 1]
    to_monotonic = time.monotonic() - time.time()
    stored_at = {row.content: row.stored_at + to_monotonic for row in found.rows}
    billings = world.api.billings(again)
    return [Bills(calls, stored_at.get(text)) for text, calls in zip(again, billings, strict=True)]
