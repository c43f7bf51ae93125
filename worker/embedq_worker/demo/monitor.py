"""The demo's Flower: ``embedq flower`` on a free port of 127.0.0.1, for as long as somebody looks."""

from __future__ import annotations

import os
import re
import signal
import sys
import webbrowser
from collections.abc import Mapping

import click

from embedq_worker.demo.stopping import Stopped, StopSignals
from embedq_worker.embedded.command import CommandProcess


class DemoMonitor(CommandProcess):
    """Flower for a stack's ``environment``: a context manager. ``url`` is known once it answers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("Flower", environment, ["flower", "--port", "0"])
        self.url = ""

    def wait(self) -> None:
        """Wait until it answers. Raises ``EmbeddedError`` with the end of its log if it ends."""
        self.wait_until(self._announced)

    def _announced(self) -> bool:
        found = re.search(r"http://\S+", self.log())
        self.url = found[0] if found else ""
        return bool(found)


def show(monitor: DemoMonitor) -> None:
    """Say where it is, and open a browser where a person has one."""
    click.echo(f"Flower shows it all: {monitor.url}")
    if sys.stdout.isatty() and _has_display():
        webbrowser.open(monitor.url)


def hold(stop: StopSignals, monitor: DemoMonitor) -> None:
    """Wait for Enter, the input's end or Ctrl-C; only other signals raise ``Stopped``."""
    click.echo(
        f"\nEverything runs on, so that you can look: {monitor.url}\nPress Enter to end it. ", nl=False
    )
    try:
        sys.stdin.readline()
    except Stopped:
        click.echo()
        if stop.received != signal.SIGINT:
            raise


def _has_display() -> bool:
    """Else a browser for terminals could open, in the middle of what the demo prints."""
    return sys.platform == "darwin" or any(os.environ.get(each) for each in ("DISPLAY", "WAYLAND_DISPLAY"))
