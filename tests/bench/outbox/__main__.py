"""``make bench-outbox``: what enqueueing in a transaction costs, and how fast it is relayed.

Exit code 1 if something was missed.
"""

from __future__ import annotations

import sys

from tests.bench.outbox import enqueue, relay
from tests.bench.scenarios import play

SCENARIOS = {"sql": enqueue.run, "relay": relay.run}

if __name__ == "__main__":
    sys.exit(play("tests.bench.outbox", __doc__, SCENARIOS))
