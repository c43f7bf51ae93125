"""``embedq drift``: whether models still give the vectors that they gave at first."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
import msgspec

from embedq_worker.cli.session import open_database
from embedq_worker.cli.standing import duration
from embedq_worker.errors import DriftUnknown
from embedq_worker.settings import Settings
from embedq_worker.store.drift import DriftState, accept, list_states, want_check
from embedq_worker.store.postgres.connections import Connection

_LOOK = 0.2
"""Seconds between two looks whether the check has ended."""


class Said(msgspec.Struct, frozen=True):
    """A state as scripts read it; times in UTC, null before the first check."""

    model: str
    dimensions: int
    distance: float | None
    drifts: bool
    drifts_since: datetime | None
    checked_at: datetime | None
    first_at: datetime | None
    is_changed_here: bool


@click.group(epilog="Example: embedq drift check text-embedding-3-small")
def drift() -> None:
    """See whether models still give the vectors that they gave at first."""


@drift.command("list", epilog="Example: embedq drift list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
def list_(as_json: bool) -> None:
    """List the last check of every model that a collection uses or moves to."""
    with open_database(Settings.from_environment()) as connection:
        states = list_states(connection)
    _show(states, as_json)
    if not states and not as_json:
        click.echo("no collection uses a model yet", err=True)


@drift.command(epilog="Example: embedq drift check text-embedding-3-small --timeout 120")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a worker.",
)
@click.pass_context
def check(ctx: click.Context, model: str, as_json: bool, timeout: float) -> None:
    """Have a worker check MODEL, by id or alias, now; exit with 1 if it drifts.

    It is done with the worker's own key and settings, in its turn and under the limits. The first check of
    a model only keeps what later ones are compared with.
    """
    settings = Settings.from_environment()
    model = _id_of(model, settings)
    with open_database(settings) as connection:
        if not want_check(connection, model):
            raise DriftUnknown(f"no collection uses model {model}; `embedq drift list` shows those in use")
        states = _await(connection, model, timeout)
    _show(states, as_json)
    if any(state.drifts_since for state in states):
        ctx.exit(1)


@drift.command("accept", epilog="Example: embedq drift accept text-embedding-3-small")
@click.argument("model")
def accept_(model: str) -> None:
    """Take what the last check of MODEL found for right: later ones are compared with that.

    Rows that were written before keep their vectors; docs/drift.md says what to do with them.
    """
    settings = Settings.from_environment()
    model = _id_of(model, settings)
    with open_database(settings) as connection:
        if not accept(connection, model):
            raise DriftUnknown(f"model {model} was not checked yet; run `embedq drift check {model}`")
    click.echo(f"{model}: later checks are compared with what the last one found")


def _id_of(model: str, settings: Settings) -> str:
    """The id of an alias; a model that only the workers' files have keeps its name."""
    return settings.catalogue.get(model).id if model in settings.catalogue else model


def _await(connection: Connection, model: str, timeout: float) -> list[DriftState]:
    """The states of a model once they are those of new checks. Raises ``DriftUnknown``."""
    until = time.monotonic() + timeout
    while True:
        states = [state for state in list_states(connection) if state.model == model]
        if not any(state.is_wanted for state in states):
            return states
        if time.monotonic() > until:
            raise DriftUnknown(
                f"no worker has checked model {model} within {timeout:g} s, one does later; look whether one "
                "runs that serves its collections, and with `embedq status` whether the model is paused"
            )
        time.sleep(_LOOK)


def _show(states: list[DriftState], as_json: bool) -> None:
    if as_json:
        said = [_said(state) for state in states]
        click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
        return
    for state in states:
        click.echo("\n  ".join([_line(state), *_advice(state)]))


def _said(state: DriftState) -> Said:
    return Said(
        model=state.model,
        dimensions=state.dimensions,
        distance=state.distance,
        drifts=state.drifts_since is not None,
        drifts_since=_in_utc(state.drifts_since),
        checked_at=_in_utc(state.checked_at),
        first_at=_in_utc(state.first_at),
        is_changed_here=state.is_changed_here,
    )


def _line(state: DriftState) -> str:
    about = f"{state.model}  {state.dimensions:,} dimensions; "
    if state.checked_at is None:
        return about + "not checked yet"
    ago = duration((datetime.now(UTC) - state.checked_at).total_seconds())
    return (
        about + f"distance {state.distance:.2g} from the vectors of {_day(state.first_at)}, checked {ago} ago"
    )


def _advice(state: DriftState) -> list[str]:
    if state.drifts_since is None:
        return []
    why = (
        "its address or settings are other than then"
        if state.is_changed_here
        else "nothing was changed here: ask who runs the service which model it gives"
    )
    return [
        click.style(f"DRIFTS since {_day(state.drifts_since)}: {why}", fg="red", bold=True),
        "rows written since then do not fit older ones; docs/drift.md says what to do",
        f"if it is meant: embedq drift accept {state.model}",
    ]


def _day(at: datetime | None) -> str:
    return "?" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _in_utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
