"""``make bench-limits``: what the limits promise, on real workers and servers, beside what is measured.

The fake API stands for the service. Exit code 1 if something was missed.
"""

from __future__ import annotations

import sys

from tests.bench.limits import (
    cost,
    fairness,
    idle,
    isolation,
    kills,
    queries,
    rates,
    refused_key,
    retry_after,
    silent,
)
from tests.bench.scenarios import Scenario, play

SCENARIOS: dict[str, Scenario] = {
    "cost": cost.run,
    "idle": idle.run,
    "kills": kills.run,
    "rates": rates.run,
    "silent": silent.run,
    "retry-after": retry_after.run,
    "isolation": isolation.run,
    "fairness": fairness.run,
    "queries": queries.run,
    "refused-key": refused_key.run,
}

if __name__ == "__main__":
    sys.exit(play("tests.bench.limits", __doc__, SCENARIOS))
