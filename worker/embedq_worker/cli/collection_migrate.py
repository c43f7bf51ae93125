"""``embedq collection migrate``: another model for a collection, while it is read and written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import click

from embedq.broker import Broker
from embedq.cli.progress import progress
from embedq.wording import counted
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.errors import CollectionConflict, RowsUnfilled
from embedq_worker.money import dollars
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.collections import get_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.moving.comparison import K, overlap
from embedq_worker.store.moving.estimate import Estimate, estimate
from embedq_worker.store.moving.filling import Filling
from embedq_worker.store.moving.successor import end, moving, start, swap
from embedq_worker.store.moving.successor_checks import State, check_start, check_state
from embedq_worker.store.moving.successor_unfilled import count_unfilled, index_unfilled, refuse_unfilled
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.quantization import column_type
from embedq_worker.store.vector_index import vector_indexes

_SWITCHES = 10
"""Tries of a switch: rows that are being written just then may lack the vector for a moment."""
_SAMPLE = 50
"""Rows whose neighbours are compared."""


@click.command(
    "migrate",
    epilog="Example: embedq collection migrate docs --model text-embedding-3-large --dimensions 1024",
)
@click.argument("name")
@click.option("--model", help="The model to move to, by id or alias; left out: go on with the move begun.")
@click.option("--dimensions", type=click.IntRange(min=1), help="Size of a vector. Default: the model's own.")
@click.option(
    "--type",
    "vector_type",
    type=click.Choice(["vector", "halfvec"]),
    help="Column type. Default: vector up to 2,000 dimensions, halfvec above.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Rows a second to fill at most. Default: as the model's limits allow.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would take, and change nothing.")
@click.option("--status", is_flag=True, help="How far it is, and how results will change.")
@click.option("--switch", is_flag=True, help="Fill what is left, then let searches use it.")
@click.option("--undo", is_flag=True, help="Go back to the model before, as quickly.")
@click.option("--finish", is_flag=True, help="Keep the new model, drop the vectors before.")
@click.option("--abandon", is_flag=True, help="Keep the old model, drop the new vectors.")
def migrate(
    name: str,
    model: str | None,
    dimensions: int | None,
    vector_type: VectorType | None,
    rate: float | None,
    dry_run: bool,
    **steps: bool,
) -> None:
    """Move collection NAME to another model, while it is read and written.

    With --model, each row gets the new model's vector in a column of its own, by workers in lane bulk, and an
    index on it if the collection has one. Searches go on with the old model. Stop it and run it again as you
    like. Then --status compares the two, --switch lets searches use the new one from one moment to the next,
    --undo goes back as quickly, and --finish ends it.
    """
    step = _only(steps)
    if step is not None and (model or dimensions or vector_type or dry_run):
        raise click.UsageError(f"--{step} takes neither a model nor --dry-run")
    if step in _FILLING_NOTHING and rate is not None:
        raise click.UsageError(f"--{step} fills no rows, so it takes no --rate")
    if model is None and (dimensions or vector_type or dry_run):
        raise click.UsageError("give --model with --dimensions, --type and --dry-run")
    settings = Settings.from_environment()
    with open_database(settings) as connection, open_broker(settings) as broker:
        desk = _Desk(connection, broker, settings, name, rate)
        if step is not None:
            _STEPS[step](desk)
        elif dry_run:
            desk.estimate(model or "", dimensions, vector_type)
        else:
            desk.fill(model, dimensions, vector_type)


@dataclass
class _Desk:
    """The steps of a move, each with what it says."""

    connection: Connection
    broker: Broker
    settings: Settings
    name: str
    rate: float | None

    @property
    def collection(self) -> Collection:
        return get_collection(self.connection, self.name)

    def estimate(self, model: str, dimensions: int | None, vector_type: VectorType | None) -> None:
        """What it would take."""
        usable = self.settings.catalogue.usable(model)
        size = dimensions or usable.dimensions
        usable.check_dimensions(size)
        kind = column_type(size, vector_type, self.collection.quantization)
        check_start(self.connection, self.collection, usable, size, kind)
        found = estimate(self.connection, self.collection, usable, size, kind, self.rate)
        click.echo(f"{self.name} to {usable.id}, {kind}({size}), would take:")
        for line in _lines(found):
            click.echo(f"  {line}")

    def fill(self, model: str | None, dimensions: int | None, vector_type: VectorType | None) -> None:
        """Begin, or go on."""
        with self._moving() as collection:
            if model is not None:
                usable = self.settings.catalogue.usable(model)
                collection = start(
                    self.connection, self.name, usable, dimensions, vector_type, building=_say_building
                )
                publish(self.connection, self.broker, self.settings)
            if collection.shadow is None:
                raise CollectionConflict(f"collection {self.name!r} does not move; give it a --model")
            left = self._fill(collection)
            if not left:
                self._index(collection)
        if left:
            click.echo(_left(collection, left), err=True)
            sys.exit(1)
        click.echo(
            f"every row has its vector; see `embedq collection migrate {self.name} --status`, then --switch"
            if collection.shadow.state == "next"
            else "every row has its vector of the model before: --undo is possible"
        )

    def status(self) -> None:
        """How far it is."""
        collection = self.collection
        shadow = collection.shadow
        if shadow is None:
            click.echo(f"{self.name} uses {_named(collection)}, and does not move")
            return
        other = collection.as_shadow()
        going = "moves to" if shadow.state == "next" else "has moved from"
        click.echo(f"{self.name} uses {_named(collection)}, and {going} {_named(other)}")
        click.echo(
            f"  rows without a vector of {other.model}: {count_unfilled(self.connection, collection):,}"
        )
        indexed = any(index.valid for index in vector_indexes(self.connection, other))
        click.echo(f"  its vectors {'have' if indexed else 'have no'} index")
        found = overlap(self.connection, collection, _SAMPLE)
        if found is not None:
            click.echo(
                f"  overlap@{K}: {found.share:.2f}; of the {K} nearest rows to each of {found.rows} taken by "
                "chance, the share that both models agree on"
            )

    def switch(self) -> None:
        """The new model's from now on."""
        self._swap("next")
        click.echo(
            f"{self.name} uses {_named(self.collection)} from now on; --undo goes back, --finish ends it"
        )

    def undo(self) -> None:
        """Back to the model before."""
        self._swap("previous")
        click.echo(f"{self.name} uses {_named(self.collection)} again; --switch, or --abandon ends it")

    def finish(self) -> None:
        """Drop the vectors of the model before."""
        self._end("previous")

    def abandon(self) -> None:
        """Drop the new ones."""
        self._end("next")

    @contextmanager
    def _moving(self) -> Iterator[Collection]:
        """Hold the collection's move; the collection as it is from then on."""
        with moving(self.connection, self.collection):
            yield self.collection

    def _fill(self, collection: Collection) -> int:
        """Returns the rows that lack a vector still."""
        index_unfilled(self.connection, collection, _say_building)
        work = Filling(
            self.connection,
            self.broker,
            collection,
            key_prefix=self.settings.key_prefix,
            rate=self.rate,
            say=lambda news: click.echo(news, err=True),
        )
        total = count_unfilled(self.connection, collection)
        with progress("fill", total) as advance:
            return work.run(advance).left

    def _index(self, collection: Collection) -> None:
        """As the vectors of now have one, so must those that searches will use."""
        present = [index for index in vector_indexes(self.connection, collection) if index.valid]
        other = collection.as_shadow()
        if present and not any(index.valid for index in vector_indexes(self.connection, other)):
            options = dict(option.split("=") for option in present[0].options)
            wanted = {name: int(options[name]) for name in ("m", "ef_construction") if name in options}
            click.echo(f"building an index on the vectors of {other.model}")
            build_index(self.connection, other, BuildOptions(**wanted))

    def _swap(self, to: State) -> None:
        with self._moving() as collection:
            check_state(collection, to)
            for tries_left in reversed(range(_SWITCHES)):
                left = self._fill(collection)
                with suppress(*((RowsUnfilled,) if tries_left and not left else ())):
                    refuse_unfilled(self.connection, collection)  # an index takes long: for nothing else
                    self._index(collection)
                    swap(self.connection, self.name, to)
                    break
        publish(self.connection, self.broker, self.settings)

    def _end(self, state: State) -> None:
        with self._moving() as collection:
            end(self.connection, self.name, state)
        publish(self.connection, self.broker, self.settings)
        click.echo(
            f"{self.name} uses {_named(collection)}; the vectors of {collection.as_shadow().model} are gone"
        )


_STEPS = {
    "status": _Desk.status,
    "switch": _Desk.switch,
    "undo": _Desk.undo,
    "finish": _Desk.finish,
    "abandon": _Desk.abandon,
}
_FILLING_NOTHING = ("status", "finish", "abandon")


def _only(steps: dict[str, bool]) -> str | None:
    """The step that is asked for, if any. Raises ``click.UsageError`` for more than one."""
    asked = [step for step, is_asked in steps.items() if is_asked]
    if len(asked) > 1:
        raise click.UsageError(f"give one step at a time, not {' and '.join(f'--{step}' for step in asked)}")
    return asked[0] if asked else None


def _say_building() -> None:
    click.echo("building an index of the rows to fill; it waits for transactions that are older")


def _named(collection: Collection) -> str:
    return f"{collection.model}, {collection.vector_type}({collection.dimensions})"


def _left(collection: Collection, left: int) -> str:
    name = collection.name
    return (
        f"{counted(left, 'row')} of {name} {'has' if left == 1 else 'have'} no vector of "
        f"{collection.as_shadow().model} still: look whether "
        "workers run and have the model, whether it is paused (`embedq status`), and which texts it refuses "
        f"(`embedq dead-letters list --collection {name}`); then run it again"
    )


def _lines(found: Estimate) -> list[str]:
    cost = f"about {dollars(found.usd)} at the provider's list price"
    requests = counted(found.requests, "request")
    minutes = found.minutes
    time = (
        "as long as the service takes: the model has no limits a minute"
        if minutes is None
        else f"at least {minutes:,.1f} minutes by the limits"
    )
    return [
        f"{counted(found.rows, 'row')}, about {counted(found.tokens, 'token')} in {requests}, "
        + ("of unknown price" if found.usd is None else cost),
        time,
        f"{found.column_bytes / 1e6:,.0f} MB for the new column, and about as much again for an index on it",
    ]
