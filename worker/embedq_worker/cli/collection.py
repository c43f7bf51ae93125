"""``embedq collection``: create, list, migrate and drop collections."""

from __future__ import annotations

import json

import click
import msgspec

from embedq.broker import Broker
from embedq.contract import Versions
from embedq.errors import BrokerUnavailable
from embedq.wording import counted
from embedq_worker.cli.collection_migrate import migrate
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.errors import CollectionBusy
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection, OnTooLong, Quantization, VectorType
from embedq_worker.store.collections import create_collection, drop_collection, get_collection
from embedq_worker.store.fleet.backlog import Waiting, purge_dropped, waiting
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.row_counts import count_outbox


@click.group(epilog="Example: embedq collection create docs --model text-embedding-3-small")
def collection() -> None:
    """Create, list, migrate and drop collections."""


collection.add_command(migrate)


@collection.command(
    epilog="Example: embedq collection create docs --model text-embedding-3-small --dimensions 512"
)
@click.argument("name")
@click.option("--model", required=True, help="Model of the catalogue, by id or alias.")
@click.option("--dimensions", type=click.IntRange(min=1), help="Size of a vector. Default: the model's own.")
@click.option(
    "--type",
    "vector_type",
    type=click.Choice(["vector", "halfvec"]),
    help="Column type. Default: vector up to 2,000 dimensions, halfvec above.",
)
@click.option(
    "--quantization",
    type=click.Choice(["none", "halfvec", "binary"]),
    default="none",
    show_default=True,
    help="What the index holds: the vectors, halves of them, or a bit a dimension; results are ranked by the "
    "vectors. `embedq index rebuild` changes it.",
)
@click.option(
    "--text-search",
    default="simple",
    show_default=True,
    help="Configuration of full text search, such as english.",
)
@click.option("--schema", default="public", show_default=True, help="Where to put the table; must exist.")
@click.option(
    "--versions",
    type=click.Choice(["clock", "given"]),
    default="clock",
    show_default=True,
    help="Who orders the writes of one id: the broker's clock, or the integers that producers give.",
)
@click.option(
    "--on-too-long",
    type=click.Choice(["error", "truncate", "chunk"]),
    default="error",
    show_default=True,
    help="A text longer than the model takes becomes a dead letter, is cut, or becomes several rows.",
)
@click.option(
    "--chunk-tokens",
    type=click.IntRange(min=1),
    help="Tokens of a chunk at most; longer texts become several rows. Default: what the model takes.",
)
@click.option(
    "--chunk-overlap",
    type=click.IntRange(min=0),
    help="Tokens that a chunk repeats of the one before at most. Default: a tenth of --chunk-tokens.",
)
@click.option("--table", help="Write into this table of your own, as SCHEMA.TABLE: its vectors alone.")
@click.option("--key", help="Of --table, the column with the items' ids.  [default: id]")
@click.option("--vector", help="Of --table, the column for the vectors.  [default: embedding]")
@click.option("--content", help="Of --table, the column with the texts, for functions that show them.")
@click.option("--metadata", help="Of --table, the jsonb column that filters look at.")
@click.option(
    "--keep-vectors",
    is_flag=True,
    help="The vectors that are in --table already are vectors of this model: keep them.",
)
def create(
    name: str,
    model: str,
    dimensions: int | None,
    vector_type: VectorType | None,
    quantization: Quantization,
    text_search: str,
    schema: str,
    versions: Versions,
    on_too_long: OnTooLong,
    chunk_tokens: int | None,
    chunk_overlap: int | None,
    keep_vectors: bool,
    **own: str | None,
) -> None:
    """Create a collection: a table NAME with a vector column, and the functions NAME_search and its like.

    Safe to repeat with the same options. The vectors get no index yet: load first, then `embedq index build
    NAME`.

    With --table there is no new table. The vectors go into a column of yours, vector(n) or halfvec(n), of the
    row whose key is the item's id; rows come and go by your own hand.
    """
    names = _own_names(schema, own)
    if keep_vectors and names is None:
        raise click.UsageError("--keep-vectors is about your own table: give --table too")
    settings = Settings.from_environment()
    usable = settings.catalogue.usable(model)
    with open_database(settings) as connection, open_broker(settings) as broker:
        table = find_own_table(connection, names) if names else None
        made = create_collection(
            connection,
            name=name,
            model=usable,
            dimensions=dimensions,
            vector_type=vector_type,
            schema=schema,
            versions=versions,
            quantization=quantization,
            text_search=text_search,
            long_texts=LongTexts(on_too_long, chunk_tokens, chunk_overlap),
            own=table,
            keep_vectors=keep_vectors,
        )
        click.echo(f"{made.name}: {made.model}, {made.vector_type}({made.dimensions}) in {made.place}")
        for note in table.notes if table else ():
            click.echo(f"note: {note}", err=True)
        publish(connection, broker, settings)


@collection.command("list", epilog="Example: embedq collection list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
def list_(as_json: bool) -> None:
    """List the collections, and publish them to producers."""
    settings = Settings.from_environment()
    with open_database(settings) as connection, open_broker(settings) as broker:
        collections = publish(connection, broker, settings)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(collections), indent=2))
        return
    for each in collections:
        column = f"{each.vector_type}({each.dimensions})"
        click.echo(f"{each.name}  {each.model}  {column} in {each.place}  versions {each.versions}")
    if not collections:
        click.echo("no collections yet; create one with `embedq collection create`", err=True)


@collection.command(epilog="Example: embedq collection drop docs --yes")
@click.argument("name")
@click.option("--purge", "purging", is_flag=True, help="Also delete its messages, queued or in hand.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(name: str, purging: bool, yes: bool) -> None:
    """Drop a collection with its table, vectors and ledger. Its dead letters stay.

    A table of your own stays as it is, with its vectors and their index.

    Refused while messages for it are queued or in the hands of workers, or items of it in the outbox, unless
    --purge is given. Where its budget is spent they stay until midnight UTC: raise it with `embedq budget
    set`, or purge.
    """
    settings = Settings.from_environment()
    with open_database(settings) as connection, open_broker(settings) as broker:
        found = get_collection(connection, name)
        if not purging:
            _refuse_if_waiting(name, _waiting(broker, name, settings), count_outbox(connection, found))
        if not yes:
            click.confirm(f"Drop {_lost(found)}?", abort=True)
        drop_collection(connection, name)
        publish(connection, broker, settings)
        # Last: producers that had not read the new registry may have enqueued until now.
        purged = (
            broker.call(lambda client: purge_dropped(client, name, settings.key_prefix)) if purging else 0
        )
    deleted = f", {counted(purged, 'message')} deleted" if purging else ""
    kept = "" if found.is_managed else f"; the vectors in {found.place} stay as they are"
    click.echo(f"dropped {name}{deleted}{kept}")


def _own_names(schema: str, own: dict[str, str | None]) -> OwnNames | None:
    """How the options name a table of one's own; those that are not given have their defaults there."""
    given = {option: name for option, name in own.items() if name is not None}
    if not given:
        return None
    if "table" not in given:
        raise click.UsageError(f"--{next(iter(given))} names a column of your own table: give --table too")
    return OwnNames(schema=schema, **given)


def _lost(found: Collection) -> str:
    if found.is_managed:
        return f"the table {found.place} and all its vectors"
    return f"collection {found.name} with its functions and ledger, and leave {found.place} as it is"


def _waiting(broker: Broker, name: str, settings: Settings) -> Waiting:
    try:
        return broker.call(lambda client: waiting(client, name, settings.key_prefix))
    except BrokerUnavailable as error:
        raise CollectionBusy(
            f"collection {name!r} was not dropped: whether messages for it are queued is not known "
            f"while Redis is away ({error})"
        ) from error


def _refuse_if_waiting(name: str, found: Waiting, in_outbox: int) -> None:
    places = [f"{count} messages in lane {lane}" for lane, count in found.queued.items() if count]
    if found.in_hand:
        places.append(f"{found.in_hand} messages in the hands of workers")
    if in_outbox:
        places.append(f"{in_outbox} items in the outbox")
    if places:
        raise CollectionBusy(
            f"collection {name!r} was not dropped: it has {', '.join(places)}"
            "; let the workers finish (where its budget is spent, raise it by `embedq budget set` first), "
            "or give --purge to delete them"
        )
