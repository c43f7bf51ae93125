"""How large the scenarios are; each field is an option of ``python -m tests.simulation.run``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Seconds are virtual."""

    seed: int = 1
    steady_processes: int = 2000
    steady_models: int = 30
    steady_seconds: float = 10.0
    rate_processes: int = 500
    rate_requests: int = 6_000
    rate_seconds: float = 75.0
    silent_processes: int = 8
    silent_seconds: float = 600.0
    kill_processes: int = 40
    kill_limit: int = 100
    kill_seconds: float = 90.0
    outage_processes: int = 50
    outage_limit: int = 32
    outage_seconds: float = 120.0
    fair_processes: int = 4
    fair_calls: int = 4000
    lane_seconds: float = 120.0
    memory_processes: int = 50
    memory_limit: int = 50


SMALL = Size(
    steady_processes=30,
    steady_models=2,
    steady_seconds=2.0,
    rate_processes=4,
    rate_requests=120,
    rate_seconds=30.0,
    silent_seconds=60.0,
    kill_processes=8,
    kill_limit=20,
    kill_seconds=15.0,
    outage_processes=4,
    outage_limit=3,
    outage_seconds=45.0,
    fair_calls=300,
    lane_seconds=20.0,
    memory_processes=4,
    memory_limit=10,
)
"""For the tests: a few seconds in all."""
