"""How often a worker knocks at a Redis that is away."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.utils import functional

from embedq_worker.app import create_app
from embedq_worker.embedded.process import free_port
from embedq_worker.intake.consumer import Consumer
from embedq_worker.settings import Settings


class Enough(Exception):
    """The test has seen enough."""


def test_a_worker_knocks_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after minutes: whoever waits longer comes late when it is back. It complains ever more seldom."""
    pauses: list[float] = []

    def slept(seconds: float) -> None:
        pauses[-1] += seconds
        if len(pauses) > 30:
            raise Enough

    def knock(_: Any) -> None:
        pauses.append(0.0)
        raise ConnectionRefusedError

    app = create_app(Settings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    consumer = object.__new__(Consumer)
    consumer.app = app
    consumer.first_connection_attempt = True
    consumer.broker_connection_retry_attempt = 0
    connection = app.connection_for_read()
    monkeypatch.setattr(functional, "sleep", slept)
    monkeypatch.setattr(type(connection), "_establish_connection", knock)
    with pytest.raises(Enough):
        consumer.ensure_connected(connection)
    connection.release()
    assert max(pauses) == 4
    assert pauses[:4] == [1, 2, 3, 4]
    assert len(caplog.messages) == 5  # of 31 failures
