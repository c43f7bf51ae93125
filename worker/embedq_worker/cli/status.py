"""``embedq status``: what there is, what waits and how long, how the models stand, and who works."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import click

from embedq.errors import EmbedqError
from embedq_worker.cli.money import as_json
from embedq_worker.cli.session import begin_with_redis, open_broker, open_database
from embedq_worker.cli.snapshot import Snapshot, take
from embedq_worker.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from embedq.broker import Broker
    from embedq_worker.store.postgres.connections import Connection

EVERY = 2.0
"""Seconds between two looks of --watch."""
_OTHER_LINES = 12
"""Lines of a screen that are not the table of collections."""
_LEAST_ROWS = 5


@click.command(epilog="Example: embedq status --watch")
@click.option("--json", "is_json", is_flag=True, help="Machine-readable: one object.")
@click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
def status(is_json: bool, watch: bool) -> None:
    """Show what waits and for how long, how models and workers stand, and how much is embedded.

    Pending items are an estimate: messages, times the items of a message lately. A model that is PAUSED is
    not called by any worker; its texts wait. `embedq limits show` tells more.
    """
    if is_json and watch:
        raise click.UsageError("--watch is for people: ask for --json again and again instead")
    settings = Settings.from_environment()
    if watch:
        _watch(settings)
        return
    begin_with_redis()
    with open_database(settings) as connection, open_broker(settings) as broker:
        found = take(connection, broker, settings)
    if is_json:
        click.echo(as_json(found.status))
    else:
        _print(found)


def _print(found: Snapshot) -> None:
    # Imported late here and below: it takes as long as all the looking, and --json has no use for it.
    from embedq_worker.cli.status_page import console, page

    out = console()
    out.print(page(found, out.width))


def _watch(settings: Settings) -> None:
    """Until Ctrl-C. While a server is away, what was seen last stays, under a line that says so."""
    from embedq_worker.cli.status_page import console

    out = console()
    try:
        with _Eye(settings) as eye:
            if out.is_terminal:
                _live(out, eye)
            while True:
                out.print(eye.look(out))
                time.sleep(EVERY)
    except KeyboardInterrupt:
        sys.exit(0)


def _live(out: Console, eye: _Eye) -> None:
    from rich.live import Live

    with Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            live.update(eye.look(out), refresh=True)
            time.sleep(EVERY)


class _Eye:
    """Looks again and again; connects anew after a server was away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = ExitStack()
        self._servers: tuple[Connection, Broker] | None = None
        self._seen: Snapshot | None = None
        self._seen_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def look(self, out: Console) -> RenderableType:
        """What is seen now, or was seen last."""
        from embedq_worker.cli.status_page import blind, page

        trouble = self._try_to_look()
        rows = max(_LEAST_ROWS, out.height - _OTHER_LINES) if out.is_terminal else None
        shown = page(self._seen, out.width, rows) if self._seen else None
        return blind(trouble, time.monotonic() - self._seen_at, shown) if trouble else shown or ""

    def _try_to_look(self) -> str | None:
        try:
            if self._servers is None:
                opened = self._opened
                self._servers = (
                    opened.enter_context(open_database(self._settings)),
                    opened.enter_context(open_broker(self._settings)),
                )
            self._seen = take(*self._servers, self._settings)
        except EmbedqError as error:
            self._opened.close()
            self._servers = None
            return " ".join(str(error).split())
        self._seen_at = time.monotonic()
        return None
