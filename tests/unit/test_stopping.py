"""A signal ends the demo wherever it comes."""

from __future__ import annotations

import signal
import threading

import pytest

from embedq_worker.demo.stopping import Stopped, StopSignals


class Interrupted:
    """An object in whose ``__del__`` a signal comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_python_swallows_is_raised_again() -> None:
    """What is raised in a ``__del__`` is ignored."""
    with StopSignals() as stop, pytest.raises(Stopped), stop.interruptible():
        made: list[Interrupted] = [Interrupted()]
        made.clear()
        threading.Event().wait(10)
    assert stop.received == signal.SIGTERM
