"""``embedq dead-letters``: items that could not be embedded are listed, replayed and dropped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from embedq.cli.progress import progress
from embedq.contract import MAX_ITEMS, Lane
from embedq.errors import EmbedqError
from embedq.wording import counted
from embedq_worker.cli.session import open_broker, open_database
from embedq_worker.settings import Settings
from embedq_worker.store.dead_letters.listing import (
    Choice,
    Listed,
    count_chosen,
    drop_dead_letters,
    list_dead_letters,
)
from embedq_worker.store.dead_letters.replay import Replay

_SHOWN = 10
"""Letters that are not replayed and are named with their reason; the rest are counted."""
_SECONDS_A_BATCH = 10
"""How much of the rate goes into one message, if it is not full before."""
_RATE = 200.0

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _filters(command: _Command) -> _Command:
    """The options that choose letters; a letter must pass all that are given."""
    for option in (
        click.option("--code", help="Only of this code, such as too_long or 23514."),
        click.option(
            "--class",
            "cause",
            type=click.Choice(["text", "row", "successor", "not_a_job", "killer"]),
            help="Only of this class.",
        ),
        click.option(
            "--number",
            "numbers",
            type=click.IntRange(min=1),
            multiple=True,
            help="Only this letter; may be repeated.",
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters", epilog="Example: embedq dead-letters list --collection docs")
def dead_letters() -> None:
    """Look at items that could not be embedded, and put them back or drop them."""


@dead_letters.command("list", epilog="Example: embedq dead-letters list --collection docs --limit 20")
@click.option("--collection", help="Only of this collection. Default: of all.")
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_(
    collection: str | None,
    numbers: tuple[int, ...],
    cause: str | None,
    code: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the newest dead letters with their reasons, newest first. Their texts are not shown."""
    choice = _choice(collection, numbers, cause, code)
    with open_database(Settings.from_environment()) as connection:
        listed = list_dead_letters(connection, choice, limit)
    for letter in listed:
        click.echo(msgspec.json.encode(letter).decode() if as_json else _line(letter))
    if not listed:
        click.echo("no dead letters", err=True)


@dead_letters.command(epilog="Example: embedq dead-letters replay docs --class row --rate 50 --lane bulk")
@click.argument("collection", required=False)
@_filters
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=_RATE,
    show_default=True,
    help="Items a second, so that they do not crowd out what is new.",
)
@click.option(
    "--lane", type=click.Choice(["live", "bulk"]), help="bulk gives way to live. Default: as they came."
)
def replay(
    collection: str | None,
    numbers: tuple[int, ...],
    cause: str | None,
    code: str | None,
    rate: float,
    lane: Lane | None,
) -> None:
    """Put dead letters of COLLECTION, or of all, back on their queues, once what was wrong is mended.

    Items keep their id, version, metadata and source, so that nothing newer is overwritten. What is queued
    again is no dead letter any more; what cannot be is named with the reason, stays, and makes the exit code
    1. Safe to stop and to run again.
    """
    settings = Settings.from_environment()
    choice = _choice(collection, numbers, cause, code)
    with open_database(settings) as connection, open_broker(settings) as broker:
        total, last = count_chosen(connection, choice)
        at_once = max(1, min(MAX_ITEMS, int(rate * _SECONDS_A_BATCH)))
        work = Replay(connection, broker, choice, last=last, at_once=at_once, lane=lane)
        outcome = _Tally(total)
        with progress("replay dead letters", total) as advance:
            _run(work, rate, outcome, advance)
    click.echo(outcome.summary())
    if outcome.refused:
        sys.exit(1)


@dead_letters.command(epilog="Example: embedq dead-letters drop docs --code too_long --yes")
@click.argument("collection", required=False)
@_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(
    collection: str | None, numbers: tuple[int, ...], cause: str | None, code: str | None, yes: bool
) -> None:
    """Delete dead letters of COLLECTION, or of all, with their texts."""
    choice = _choice(collection, numbers, cause, code)
    with open_database(Settings.from_environment()) as connection:
        total, last = count_chosen(connection, choice)
        if total and not yes:
            click.confirm(f"Drop {_letters(total)} for good, and what is kept of the texts?", abort=True)
        dropped = drop_dead_letters(connection, choice, last) if total else 0
    click.echo(f"{_letters(dropped)} dropped")


class _Tally:
    """What was replayed so far, and what was not."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.replayed = 0
        self.refused = 0

    def refuse(self, number: int, reason: str) -> None:
        """One stays a dead letter."""
        self.refused += 1
        if self.refused <= _SHOWN:
            click.echo(f"dead letter {number} is not replayed: {reason}", err=True)
        elif self.refused == _SHOWN + 1:
            click.echo("more are not replayed, they are counted, not shown", err=True)

    def summary(self) -> str:
        """In one line."""
        said = f"{_letters(self.replayed)} queued again"
        if self.refused:
            said += f"; {self.refused:,} cannot be replayed and stay"
        passed_over = self.total - self.replayed - self.refused
        if passed_over > 0:
            said += f"; {passed_over:,} were in use elsewhere, by another replay or a worker"
        return said


def _run(work: Replay, rate: float, outcome: _Tally, advance: Callable[[int], None]) -> None:
    """Batch after batch, each when the rate allows it."""
    due = time.monotonic()
    batches = work.batches()
    try:
        for batch in batches:
            for number, reason in batch.refused:
                outcome.refuse(number, reason)
            outcome.replayed += len(batch.enqueued)
            advance(outcome.replayed + outcome.refused)
            due = max(due, time.monotonic()) + batch.items / rate
            if outcome.replayed + outcome.refused < outcome.total:
                time.sleep(max(0.0, due - time.monotonic()))
    except EmbedqError as error:
        raise EmbedqError(
            f"{error}; {_letters(outcome.replayed)} queued again before, the others stay: "
            "run it again, what was enqueued twice is done once"
        ) from error


def _choice(collection: str | None, numbers: tuple[int, ...], cause: str | None, code: str | None) -> Choice:
    return Choice(collection=collection, numbers=numbers or None, cause=cause, code=code)


def _letters(count: int) -> str:
    return counted(count, "dead letter")


def _line(letter: Listed) -> str:
    what = "a message" if letter.item_id is None else f"item {letter.item_id!r}"
    status = f" status {letter.status}" if letter.status is not None else ""
    parameter = f" parameter {letter.parameter}" if letter.parameter else ""
    tries = counted(letter.attempts, "attempt")
    where = letter.collection or "no collection"
    gone = "" if letter.has_text else "; its text is gone"
    return (
        f"{letter.number}  {letter.last_at:%Y-%m-%d %H:%M:%S%z}  {where}  {what}: "
        f"{letter.cause} {letter.code}{status}{parameter}, {tries}{gone}"
    )
