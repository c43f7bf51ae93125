"""``make bench-reliability``: what is promised of crashes, stops, versions and poison, and what is measured.

The fake API stands for the service. Exit code 1 if something was missed.
"""

from __future__ import annotations

import sys

from tests.bench.reliability import kills, poison, terms, versions
from tests.bench.scenarios import Scenario, play

SCENARIOS: dict[str, Scenario] = {
    "kills": kills.run,
    "terms": terms.run,
    "versions": versions.run,
    "poison": poison.run,
}

if __name__ == "__main__":
    sys.exit(play("tests.bench.reliability", __doc__, SCENARIOS))
