"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedq.testing import FakeAPI
from embedq_worker.store.connections import Connection, connect
from tests.support.producers import KINDS, Kind
from tests.support.stack import Stack


@pytest.fixture
def stack(broker_url: str, database_url: str, fake_api: FakeAPI, tmp_path: Path) -> Iterator[Stack]:
    """Real servers and the fake API, empty."""
    stack = Stack(broker_url, database_url, fake_api, tmp_path)
    yield stack
    stack.close()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to a migrated database."""
    with connect(database_url) as opened:
        yield opened


@pytest.fixture(params=KINDS, ids=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """``Producer``, and ``AsyncProducer`` behind the same methods."""
    made: Kind = request.param
    return made
