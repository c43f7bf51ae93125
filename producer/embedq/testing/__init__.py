"""Tools to test a service that embeds through embedq, without an API, a key or a network.

Needs the extra ``embedq[testing]``; plain ``import embedq`` never imports this package.

>>> from embedq.testing import FakeAPI, faults
>>> with FakeAPI() as api:
...     api.configure(latency=0.05)
...     api.inject(faults.Status(503), next_calls=2)
...     vector = api.vector("how leases lapse", 1536)

``docs/testing.md`` lists every setting and fault.
"""

from __future__ import annotations

from embedq.testing import faults
from embedq.testing.busiest import Busiest
from embedq.testing.control import Behaviour, CallRecord, ModelStats, Stats
from embedq.testing.fake_api import FakeAPI, FakeAPIError
from embedq.testing.vectors import tokens_of, vector_of

__all__ = [
    "Behaviour",
    "Busiest",
    "CallRecord",
    "FakeAPI",
    "FakeAPIError",
    "ModelStats",
    "Stats",
    "faults",
    "tokens_of",
    "vector_of",
]
