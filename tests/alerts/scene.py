"""The installation that fails: a chaos world with a model and a collection for each failure that has one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from embedq import Producer
from embedq.errors import BrokerUnavailable, RegistryError
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.embedded.process import free_port
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from tests.alerts.failures import ApiFailure, Deed
from tests.alerts.prometheus import Prometheus
from tests.bench.sampler import Sampler
from tests.chaos.crew import Crew
from tests.chaos.history import History
from tests.chaos.load import MARKER
from tests.chaos.world import DIMENSIONS, World

_FEED_EVERY = 1.0
_ITEMS = 4
"""Of a message: some faults need several vectors in an answer."""


@dataclass
class Scene:
    """Workers with the settings of every installation, a trickle for each collection, and Prometheus.

    It gives the API its faults with ``spoil`` and takes them away with ``mend``.
    """

    world: World
    folder: Path
    program: str
    failures: Sequence[ApiFailure]
    deeds: Sequence[Deed] = ()
    workers: int = 2
    every: int = 2
    """Seconds between two scrapes and two evaluations. A page takes up to one while a server is away."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=count)
    _is_spoilt: bool = False
    _resting: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._create()
            self.mend()
            history = stack.enter_context(History(self.folder))
            ports = [free_port() for _ in range(self.workers)]
            self.crew = stack.enter_context(
                Crew(
                    self.workers, self._environment, folder=self.folder, history=history, metrics_ports=ports
                )
            )
            self.prometheus = stack.enter_context(
                Prometheus(self.program, self.folder, ports, every=self.every)
            )
            self._producer = Producer(self.world.valkey.url, source="alerts")
            stack.callback(self._producer.close)
            self.crew.wait_until_ready()
            stack.enter_context(Sampler(_FEED_EVERY, self._feed))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def spoil(self) -> None:
        """Every failure of the API begins."""
        for failure in self.failures:
            self.world.api.inject(
                failure.fault, model=failure.model, marker=failure.marker, probability=failure.share
            )
        self._is_spoilt = True

    def mend(self) -> None:
        """All is well with the API."""
        self._is_spoilt = False
        self.world.api.reset()
        self.world.api.configure(latency=0.2, dimensions=DIMENSIONS)

    def rest(self, collection: str) -> None:
        """Send it nothing any more."""
        self._resting.add(collection)

    def load(self, items: int, collection: str | None = None) -> None:
        """Enqueue so many items at once, for the first collection unless another is named."""
        texts = ({"id": f"load-{number}", "text": f"text {number}"} for number in range(items))
        self._producer.enqueue_many(collection or self.collections[0], texts)

    @property
    def collections(self) -> list[str]:
        """The collections, each with a model of its name: those of the failures, and one that has none."""
        named = [failure.model for failure in self.failures] + [deed.collection for deed in self.deeds]
        return ["well", *dict.fromkeys(filter(None, named))]

    def _create(self) -> None:
        file = self.folder / "alerts.toml"
        facts = {
            "dimensions": DIMENSIONS,
            "base64": True,
            "usd_per_million_tokens": 0.02,
            "max_concurrency": 4,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
        file.write_text("\n".join(line for name in self.collections for line in (f"[models.{name}]", *lines)))
        self._environment = self.world.environment | {"EMBEDQ_CONFIG": str(file)}
        self.settings = settings = Settings.from_environment(self._environment)
        with open_database(settings) as connection, open_broker(settings) as broker:
            for name in self.collections:
                create_collection(connection, name=name, model=settings.catalogue.usable(name))
            publish(connection, broker, settings)

    def _feed(self) -> None:
        """One message for each collection."""
        marked = {failure.model for failure in self.failures if failure.marker} if self._is_spoilt else set()
        for name in self.collections:
            if name in self._resting:
                continue
            number = next(self._numbers)
            mark = MARKER if name in marked else ""
            items = [
                {"id": f"{number}-{each}", "text": f"text {number}-{each} {mark if each == 0 else ''}"}
                for each in range(_ITEMS)
            ]
            try:
                self._producer.enqueue_many(name, items)
            except (BrokerUnavailable, RegistryError):  # away, or just emptied
                return
