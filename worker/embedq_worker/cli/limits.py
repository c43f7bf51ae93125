"""``embedq limits``: the limits of the running fleet, shown and set."""

from __future__ import annotations

import click
import msgspec

from embedq.broker import Broker
from embedq_worker.cli.session import open_broker
from embedq_worker.cli.standing import NAMES, Standing, limits_in_words, notes, standing_of, summary
from embedq_worker.limiter.board import find_models, read_board
from embedq_worker.limiter.exchange import Concurrency
from embedq_worker.limiter.live import MOST_A_MINUTE, MOST_CALLS, LiveLimits, set_limits
from embedq_worker.settings import Settings
from embedq_worker.store.registry import read_registry

_WHEN = "each worker heeds it with its next exchange: at once where it is busy, within a second elsewhere"


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A number a minute, or ``none``, which is 0."""
    if value is None:
        return None
    return 0 if value == "none" else int(click.IntRange(1, MOST_A_MINUTE)(value, param, ctx))


@click.group(epilog="Example: embedq limits set text-embedding-3-small --max-concurrency 32")
def limits() -> None:
    """Show and set the limits of the running fleet, model by model."""


@limits.command(epilog="Example: embedq limits show text-embedding-3-small --json")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
def show(model: str | None, as_json: bool) -> None:
    """Show the limits of MODEL, by id or alias, and how the fleet keeps them. Default: of every model in use.

    "live" was set by `embedq limits set` and wins; "file" is what EMBEDQ_CONFIG and the catalogue say here:
    workers that have another file have other numbers.
    """
    settings = Settings.from_environment()
    with open_broker(settings) as broker:
        found = [_look(broker, name, settings) for name in _chosen(broker, model, settings)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    click.echo("\n\n".join(_block(each) for each in found) or "no model is in use yet")


@limits.command("set", epilog="Example: embedq limits set text-embedding-3-small --requests-per-minute 3000")
@click.argument("model")
@click.option("--max-concurrency", type=click.IntRange(1, MOST_CALLS), help="Calls in flight, at most.")
@click.option(
    "--requests-per-minute",
    metavar="N|none",
    callback=_rate,
    help="Requests in any minute, at most; none: no limit.",
)
@click.option(
    "--tokens-per-minute",
    metavar="N|none",
    callback=_rate,
    help="Tokens in any minute, at most; none: no limit.",
)
@click.option(
    "--concurrency",
    type=click.Choice(["aimd", "fixed"]),
    help="aimd: fewer calls while the service pushes back; fixed: always --max-concurrency.",
)
@click.option("--reset", is_flag=True, help="Let go of what was set before: the workers' files hold again.")
def set_(
    model: str,
    max_concurrency: int | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: Concurrency | None,
    reset: bool,
) -> None:
    """Set limits of MODEL, by id or alias, for the running fleet.

    They win over the workers' files until --reset; what is not named stays as it is. Nothing is restarted.
    """
    changes = LiveLimits(
        max_concurrency=max_concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrency=concurrency,
    )
    if changes == LiveLimits() and not reset:
        raise click.UsageError("nothing to set: give at least one limit, or --reset")
    settings = Settings.from_environment()
    model = settings.catalogue.get(model).id
    with open_broker(settings) as broker:
        before = _look(broker, model, settings)
        broker.call(lambda client: set_limits(client, model, changes, settings.key_prefix, afresh=reset))
        after = _look(broker, model, settings)
    click.echo(_difference(before, after))


def _chosen(broker: Broker, model: str | None, settings: Settings) -> list[str]:
    """The ids to show, also of models that only the workers' files have. Raises ``UnknownModel``."""
    if model is None:
        return _in_use(broker, settings)
    if model not in settings.catalogue and model in _in_use(broker, settings):
        return [model]
    return [settings.catalogue.get(model).id]


def _in_use(broker: Broker, settings: Settings) -> list[str]:
    """The models of all collections, and those that the fleet has called or that were set live."""
    with_state = broker.call(lambda client: find_models(client, settings.key_prefix))
    return sorted({*with_state, *(each.model for each in read_registry(broker).values())})


def _look(broker: Broker, model: str, settings: Settings) -> Standing:
    board = broker.call(lambda client: read_board(client, model, settings.key_prefix))
    return standing_of(board, settings.catalogue)


def _block(each: Standing) -> str:
    rows = limits_in_words(each)
    rows["last minute"] = f"{each.spent.requests:,} requests, {each.spent.tokens:,} tokens"
    counts = msgspec.structs.asdict(each.counts)
    rows["so far"] = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lines = [*notes(each), *(f"{name:<20} {said}" for name, said in rows.items())]
    return "\n  ".join([summary(each), *lines])


def _difference(before: Standing, after: Standing) -> str:
    was, is_ = limits_in_words(before), limits_in_words(after)
    lines = [f"{after.model} {name}: {was[name]} → {is_[name]}" for name in NAMES if was[name] != is_[name]]
    if not lines:
        return f"{after.model}: all of that was so already"
    return "\n".join([*lines, _WHEN])
