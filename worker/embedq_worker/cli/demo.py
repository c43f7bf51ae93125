"""``embedq demo``: the whole path on this machine, with nothing installed and nothing left behind."""

from __future__ import annotations

import io
import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import click

from embedq.errors import EmbedqError
from embedq.wording import counted
from embedq_worker.demo.run import Totals, run_demo
from embedq_worker.demo.stopping import Stopped, StopSignals


@click.command(epilog="Example: embedq demo --flower")
@click.option(
    "--flower", is_flag=True, help="Show jobs, queues and workers in Flower, until Enter or Ctrl-C."
)
def demo(flower: bool) -> None:
    """Embed the docstrings of Python's standard library, then ask them some questions.

    Starts a temporary Postgres with pgvector, Valkey, a local embedding model and a worker, and removes all
    of it at the end, also on Ctrl-C. Needs no key and no network, and takes some ten seconds.
    """
    if flower and find_spec("flower") is None:
        raise click.UsageError(
            "`embedq demo --flower` needs the module flower: pip install 'embedq[worker,embedded,flower]'"
        )
    _print_anything()
    _forget_postgres()
    totals = _run(with_flower=flower)
    click.echo("\n".join(_summary(totals)))
    click.echo(f'Next: run "{_next_command()}"; README.md goes on from there')


def _run(*, with_flower: bool) -> Totals:
    """Run the demo; a signal ends with the exit code that shells give it, an error with 1."""
    stop = StopSignals()
    try:
        with stop:
            return run_demo(stop, with_flower=with_flower)
    except (EmbedqError, Stopped) as error:
        # A terminal's Ctrl-C reaches initdb too, whose end is an error.
        if stop.received is not None:
            click.echo(f"stopped by {stop.received.name}; nothing is left behind", err=True)
            sys.exit(128 + stop.received)
        click.echo(f"embedq: {error}", err=True)
        sys.exit(1)


def _print_anything() -> None:
    """Docstrings hold characters that a terminal's encoding may not have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _forget_postgres() -> None:
    """libpq's variables, such as PGPORT, are about the reader's own server."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _summary(totals: Totals) -> list[str]:
    rate = f"{totals.texts / totals.seconds:,.0f} texts/s"
    amount = f"{totals.texts:,} texts, {totals.tokens:,} tokens in {totals.seconds:.1f} s"
    lines = [f"{amount}: {rate}, {counted(totals.dead_letters, 'dead letter')}"]
    if totals.cpu_seconds is not None:
        lines.append(f"Worker CPU: {totals.cpu_seconds / totals.texts * 1e6:.0f} µs a text")
    return lines


def _next_command() -> str:
    """`embedq up`, as the reader's shell finds it."""
    scripts = Path(sysconfig.get_path("scripts"))
    found = shutil.which("embedq")
    if (found and Path(found).parent == scripts) or not (scripts / "activate").exists():
        return "embedq up"
    near = scripts.relative_to(Path.cwd()) if scripts.is_relative_to(Path.cwd()) else scripts
    return f". {near}/activate && embedq up"
