"""What the tests of the harness share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embedq.testing import FakeAPI
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from tests.chaos.options import Options
from tests.chaos.world import MakeWorld, World


@pytest.fixture
def make_world(
    valkey_server: Valkey,
    postgres_server: Postgres,
    fake_api: FakeAPI,
    broker_url: str,  # noqa: ARG001  # empties Valkey
    database_url: str,
    tmp_path: Path,
) -> Iterator[MakeWorld]:
    """A world on the session's servers, which are not restarted."""
    with ExitStack() as stack:

        def make(options: Options) -> World:
            world = World(
                valkey_server,
                postgres_server,
                fake_api,
                database_url=database_url,
                folder=tmp_path,
                options=options,
            )
            return stack.enter_context(world)

        yield make
