"""``embedq worker``: fetch jobs, embed them, write the rows."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import click
import msgspec

from embedq.contract import Lane, is_collection_name
from embedq_worker.logs.form import read_form
from embedq_worker.logs.setup import set_up_logs
from embedq_worker.settings import Settings
from embedq_worker.supervisor import Supervisor, command_of_one

if TYPE_CHECKING:
    from embedq_worker.app import WorkerApp


@click.command(
    epilog="Example: embedq worker --processes 4 --collections docs,products --lanes query,live",
)
@click.option(
    "--processes", type=click.IntRange(1), default=1, help="Worker processes; one a core. Default 1."
)
@click.option(
    "--in-hand", type=click.IntRange(1), help="Messages in hand per queue and process. Default 2048."
)
@click.option("--collections", help="Serve only these collections, separated by commas. Default: all.")
@click.option("--lanes", help="Serve only these lanes, separated by commas: query, live, bulk. Default: all.")
@click.option(
    "--events/--no-events",
    default=False,
    help="Send task events from the start, not only when a monitor asks.",
)
@click.option(
    "--loglevel",
    default="INFO",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="Default INFO.",
)
def worker(
    processes: int,
    in_hand: int | None,
    collections: str | None,
    lanes: str | None,
    events: bool,
    loglevel: str,
) -> None:
    """Fetch jobs, embed them, and write the rows, until SIGTERM or Ctrl-C."""
    set_up_logs(loglevel, form=read_form())
    if processes > 1:
        arguments = _arguments(in_hand, collections, lanes, events, loglevel)
        sys.exit(Supervisor(command_of_one(arguments), processes).run())
    settings = _settings(in_hand, collections, lanes)
    from celery.exceptions import CPendingDeprecationWarning

    from embedq_worker.app import create_app  # Celery takes a quarter of a second to import: not for --help

    # On a lost connection Celery announces its next major version's default; ours is set.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # Celery warns root of pickled messages; ours are JSON only.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

    name = f"embedq-{os.getpid()}@%h"
    flags = ["--without-mingle", "--without-gossip", "-n", name, "-l", loglevel]
    sys.exit(_run(create_app(settings), ["--quiet", "worker", *flags, *(["--events"] if events else [])]))


def _run(app: WorkerApp, arguments: list[str]) -> int:
    """Run Celery's command line and give its exit code, which `start` and `worker_main` of 5.7 lose."""
    from celery.bin.celery import celery
    from celery.platforms import EX_FAILURE
    from celery.worker import state

    celery.params[0].default = app
    code: int = celery.main(arguments, standalone_mode=False) or 0
    is_interrupted = state.should_stop == EX_FAILURE  # so Celery stops for Ctrl-C; it is a stop in order
    return 0 if is_interrupted else code


def _settings(in_hand: int | None, collections: str | None, lanes: str | None) -> Settings:
    settings = Settings.from_environment()
    changes: dict[str, object] = {}
    if in_hand is not None:
        changes["worker"] = msgspec.structs.replace(settings.worker, in_hand=in_hand)
    if collections is not None:
        changes["collections"] = _names(collections)
    if lanes is not None:
        changes["lanes"] = _lanes(lanes)
    return msgspec.structs.replace(settings, **changes)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not is_collection_name(name):
            raise click.BadParameter(f"{name!r} is not a collection's name", param_hint="--collections")
    return names


def _lanes(text: str) -> tuple[Lane, ...]:
    known: tuple[Lane, ...] = ("query", "live", "bulk")
    named = [name.strip() for name in text.split(",")]
    for name in named:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not a lane; lanes are {', '.join(known)}", param_hint="--lanes"
            )
    return tuple(lane for lane in known if lane in named)


def _arguments(
    in_hand: int | None, collections: str | None, lanes: str | None, events: bool, loglevel: str
) -> list[str]:
    given = {"--in-hand": in_hand, "--collections": collections, "--lanes": lanes, "--loglevel": loglevel}
    arguments = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    return [*arguments, *(["--events"] if events else [])]
