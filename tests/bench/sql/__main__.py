"""``make bench-sql``: what is wanted of similarity SQL and what is measured, on 100,000 vectors.

Clustered ones, of 1,536 dimensions. One server that syncs what it commits, and a client beside it. Exit code
1 if something was missed.
"""

from __future__ import annotations

import sys
from functools import partial

from tests.bench.scenarios import Scenario, play
from tests.bench.sql import filters, indexes, load
from tests.bench.sql.ground import Estate


def scenarios(estate: Estate) -> dict[str, Scenario]:
    """All of them, on one ground."""
    return {
        name: partial(run, estate)
        for name, run in (("load", load.run), ("indexes", indexes.run), ("filters", filters.run))
    }


if __name__ == "__main__":
    with Estate() as owner:
        code = play("tests.bench.sql", __doc__, scenarios(owner))
    sys.exit(code)
