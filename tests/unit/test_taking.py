"""Messages whose collection is not served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from embedq.contract import EMBED_TASK
from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.monitoring.queue_meter import QueueMeters
from embedq_worker.engine.summary import Summary
from embedq_worker.engine.taking import Taking
from embedq_worker.store.dead_letters.burial import DeadLetter


@dataclass
class Unserved:
    """In place of a directory that serves no collection now, but did serve ``docs``."""

    looks: int = 0

    def served(self, _: str) -> None:
        """Nothing is."""

    def has_served(self, name: str) -> bool:
        """Whether it once was."""
        return name == "docs"

    async def look_soon(self) -> None:
        """Count."""
        self.looks += 1


@dataclass
class Burials:
    """Keeps the letters."""

    codes: list[str] = field(default_factory=list)

    def add(self, letter: DeadLetter, _: object) -> None:
        """Keep one."""
        self.codes.append(letter.code)


def nothing(_: object) -> Any:
    """Nothing is served."""
    raise AssertionError


@pytest.mark.parametrize(
    ("queue", "codes"),
    [("embedq.docs", []), ("embedq.never", ["unknown_collection"]), ("other", ["unknown_collection"])],
)
async def test_what_was_served_a_moment_ago_goes_back(queue: str, codes: list[str]) -> None:
    """It was fetched before the consumer heard; what never was served is a dead letter. A look is first."""
    directory, burials = Unserved(), Burials()
    taking = Taking(
        directory=cast("Any", directory),
        queries=cast("Any", None),
        burials=cast("Any", burials),
        meters=QueueMeters(),
        pipeline_of=nothing,
        dispatcher_of=nothing,
    )
    ended: list[Summary] = []
    payload = {"job": {"v": 1, "collection": "docs", "items": [{"id": "1", "text": "x"}]}}
    taking.take(Delivery("", queue, payload, {"task": EMBED_TASK}, ended.append))
    await asyncio.gather(*taking.tasks)
    assert directory.looks == 1
    assert burials.codes == codes
    assert ended == ([] if codes else [{"items": 1, "withdrawn": 1}])
