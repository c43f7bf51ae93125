"""How large, how long and how rough a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    """One run. Times in seconds; the deeds' are means, 0 leaves a deed out."""

    seed: int
    jobs: int = 20_000
    """Items that are enqueued."""
    minutes: float = 10.0
    """After so long the deeds stop, whatever is left to do."""
    workers: int = 4
    rate: float = 400.0
    """Items enqueued a second."""
    kill_every: float = 3.0
    stop_every: float = 10.0
    valkey_every: float = 60.0
    postgres_every: float = 90.0
    cut_every: float = 5.0
    strand: float = 0.5
    """Share of the kills before which the line to Valkey stalls: what is on its way to the worker is lost."""
    faults: float = 0.05
    """Share of the API's calls that fail in one of many ways."""
    lease: float = 4.0
    """The workers' message lease. A stop lasts up to twice as long."""
    downtime: float = 4.0
    """A server that was stopped is away for up to so long."""
    settle: float = 120.0
    """How long the work that is left may take when the deeds are over."""
    sabotage: str | None = None
    """The safeguard that the workers do without; see ``saboteur``."""
    model: dict[str, Any] = field(default_factory=dict)
    """Settings of the model, beside those of every run."""
    latency: float = 0.2
    """Of the API."""


CALM = Options(
    seed=1,
    workers=1,
    rate=100_000,
    kill_every=0,
    stop_every=0,
    valkey_every=0,
    postgres_every=0,
    cut_every=0,
    faults=0,
    lease=2,
    settle=20,
)
"""One worker that nothing is done to, and everything enqueued at once."""
