"""The demo's Flower: ``embedq flower`` on a free port of 127.0.0.1, for as long as somebody looks."""

from __future__ import annotations

import os
import re
import signal
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import click

from embedq_worker.demo.stopping import Stopped, StopSignals
from embedq_worker.embedded.process import ServerProcess, private_folder, remove_folder, server_environment


class DemoMonitor:
    """Flower for a stack's ``environment``: a context manager. ``url`` is known once it answers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**server_environment(), **environment, "PYTHONUNBUFFERED": "1"}
        self._folder: Path | None = None
        self._process: ServerProcess | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._folder = private_folder("embedq-demo-")
        try:
            self._process = ServerProcess(
                "Flower",
                [sys.executable, "-P", "-m", "embedq.cli", "flower", "--port", "0"],
                log=self._folder / "flower.log",
                stop_signal=signal.SIGTERM,
                temporary=self._folder,
                environment=self._environment,
            )
        except BaseException:
            remove_folder(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            if self._folder is not None:
                remove_folder(self._folder)

    def wait(self) -> None:
        """Wait until it answers. Raises ``EmbeddedError`` with the end of its log if it ends."""
        assert self._process is not None
        self._process.wait_until(self._announced)

    def _announced(self) -> bool:
        assert self._process is not None
        found = re.search(r"http://\S+", self._process.log_tail())
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
