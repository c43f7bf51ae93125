"""The command ``embedq``: commands are found by name among the entry points ``embedq.commands``.

Only the chosen command's module is imported, so that the producer's commands work without the worker's
packages, and ``embedq --help`` without any.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click

from embedq.errors import EmbedqError

_SUMMARIES = {
    "budget": "Set and show what models and collections may cost a day.",
    "collection": "Create, list, migrate and drop collections.",
    "dead-letters": "List, replay and drop the items that could not be embedded.",
    "demo": "Embed and search a real corpus on embedded servers.",
    "drift": "See whether models still give the vectors that they gave.",
    "enqueue": "Enqueue the items of a file, a directory or a query.",
    "estimate": "Say what embedding a source would cost, and how long it would take.",
    "flower": "Show jobs, queues, models and workers in a browser.",
    "health": "Ask the worker here whether it can work.",
    "index": "Build and drop a collection's vector index.",
    "limits": "Show and set the limits of the running fleet.",
    "local-api": "Serve a small local embedding model, OpenAI-compatible.",
    "migrate": "Create or update embedq's schema in the database.",
    "recall": "Compare a collection's index with exact search.",
    "reconcile": "Compare a collection with its source, and mend what differs.",
    "search": "Find the texts of a collection nearest to a text.",
    "status": "Show what waits and for how long, how models and workers stand, and what is embedded.",
    "up": "Start Postgres, Valkey and a local model here, no worker.",
    "usage": "Show what was used, and what it cost.",
    "watch": "Keep collections current with tables.",
    "worker": "Start worker processes.",
}
"""One line a command, so that listing them imports none; a test holds them to the entry points."""
_EXTRAS = dict.fromkeys(("demo", "local-api", "up"), "worker,embedded") | {
    "enqueue": "cli",
    "flower": "worker,flower",
}


class Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Every command of this installation."""
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported. A missing extra ends with exit code 2 and the extra's name."""
        entry = _entry_points().get(cmd_name)
        if entry is None:
            return None
        try:
            with quick_import():
                command: click.Command = entry.load()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0].startswith("embedq"):
                raise
            extra = _EXTRAS.get(cmd_name, "worker")
            raise click.UsageError(
                f"`embedq {cmd_name}` needs the module {error.name}: pip install 'embedq[{extra}]'", ctx
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their summaries, none imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an expected error becomes one line on standard error and exit code 1."""
        try:
            return super().invoke(ctx)
        except EmbedqError as error:
            click.echo("embedq: " + " ".join(str(error).split()), err=True)
            ctx.exit(1)


@contextmanager
def quick_import() -> Iterator[None]:
    """Importing makes many objects and hardly any garbage: looking for that takes a quarter of the time.

    Nor is it looked for among these later on.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="embedq.commands")}


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 # click's signature
    if value:
        click.echo(f"embedq {version('embedq')}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def main() -> None:
    """Texts in, vectors in Postgres.

    \b
    Example:
      embedq enqueue docs texts.jsonl
    """
