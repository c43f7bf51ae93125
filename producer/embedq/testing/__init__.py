"""Tools to test a service that embeds through embedq, without an API, a key or a network.

A producer that records needs nothing else, the fake API the extra ``embedq[testing]``. Plain
``import embedq`` never imports this package.

>>> from embedq.testing import FakeAPI, MemoryProducer, faults
>>> producer = MemoryProducer(["docs"])
>>> producer.enqueue("docs", id="42", text="how leases lapse")
>>> assert producer.texts("docs") == {"42": "how leases lapse"}
>>> with FakeAPI() as api:
...     api.configure(latency=0.05)
...     api.inject(faults.Status(503), next_calls=2)
...     vector = api.vector("how leases lapse", 1536)

``docs/testing.md`` lists every setting and fault, and the fixtures for pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedq.testing import faults
    from embedq.testing.busiest import Busiest
    from embedq.testing.control import Behaviour, CallRecord, ModelStats, Stats
    from embedq.testing.fake_api import FakeAPI, FakeAPIError
    from embedq.testing.memory import Recorded
    from embedq.testing.memory_producer import AsyncMemoryProducer, MemoryProducer
    from embedq.testing.vectors import tokens_of, vector_of

__all__ = [
    "AsyncMemoryProducer",
    "Behaviour",
    "Busiest",
    "CallRecord",
    "FakeAPI",
    "FakeAPIError",
    "MemoryProducer",
    "ModelStats",
    "Recorded",
    "Stats",
    "faults",
    "tokens_of",
    "vector_of",
]

_MODULES = {
    "AsyncMemoryProducer": "memory_producer",
    "Behaviour": "control",
    "Busiest": "busiest",
    "CallRecord": "control",
    "FakeAPI": "fake_api",
    "FakeAPIError": "fake_api",
    "MemoryProducer": "memory_producer",
    "ModelStats": "control",
    "Recorded": "memory",
    "Stats": "control",
    "tokens_of": "vectors",
    "vector_of": "vectors",
}
"""Imported when asked for: a producer that records does without the extra."""


def __getattr__(name: str) -> object:
    """The names above, each from its module."""
    if name != "faults" and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES.get(name, name)}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"embedq.testing.{name} needs the module {error.name}: pip install 'embedq[testing]'",
            name=error.name,
        ) from error
    found: object = getattr(module, name, module)
    globals()[name] = found
    return found
