"""``embedq up`` and ``embedq local-api``: the servers to try embedq with."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path

import click

from embedq_worker.embedded.local_api import DEFAULT_HOST, DEFAULT_PORT, MODEL, run
from embedq_worker.embedded.process import EmbeddedError
from embedq_worker.embedded.stack import EmbeddedStack

_TRY = f"""
Then try, with these lines in another terminal:
  embedq migrate
  embedq collection create docs --model {MODEL}
  embedq worker &
  echo '{{"id": "1", "text": "How leases lapse"}}' | embedq enqueue docs - --wait
  embedq search docs "what happens to a lease?"
Ctrl-C stops the servers."""


@click.command(epilog="Example: embedq up --dir ./embedq-data")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data here between runs. Without it everything is removed at the end.",
)
def up(folder: Path | None) -> None:
    """Start Postgres with pgvector, Valkey and a local embeddings server, until Ctrl-C."""
    with EmbeddedStack(folder) as stack:
        stopped = _stop_signals()
        for name, value in stack.environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo(_TRY)
        _watch(stack, stopped)


@click.command("local-api", epilog="Example: embedq local-api --port 8090")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any."
)
def local_api(host: str, port: int) -> None:
    """Serve a small embedding model, 256 dimensions, as an OpenAI-compatible API. It asks for no key."""
    run(host, port)


def _stop_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set from now on."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _watch(stack: EmbeddedStack, stopped: threading.Event) -> None:
    while not stopped.wait(1.0):
        if ended := stack.ended():
            names = " and ".join(ended)
            raise EmbeddedError(f"{names} ended unexpectedly; everything is stopped, start it again")
