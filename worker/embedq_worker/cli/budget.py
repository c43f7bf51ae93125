"""``embedq budget``: what a model or a collection may cost a day."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click

from embedq_worker.cli.money import as_json
from embedq_worker.cli.session import open_database
from embedq_worker.errors import StoreError
from embedq_worker.money import dollars
from embedq_worker.settings import Settings
from embedq_worker.store.budgets import MOST_DOLLARS, MOST_TOKENS, reset_budget, set_budget
from embedq_worker.store.collections import list_collections
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.usage import Scope, UsageToday, usage_today

_model = click.option("--model", help="A model, by id or alias.")
_collection = click.option("--collection", help="A collection.")


def _amount(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    """An exact number of US dollars."""
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and 0 <= amount <= MOST_DOLLARS):
        raise click.BadParameter(f"{value!r} is not a number from 0 to {MOST_DOLLARS:,}", ctx, param)
    return amount


@click.group(epilog="Example: embedq budget set --collection docs --dollars 5")
def budget() -> None:
    """Set and show what models and collections may cost a day.

    Once a budget is spent texts wait, until midnight UTC or a higher budget, and queries are refused. Nothing
    is dropped, and other collections go on.
    """


@budget.command("set", epilog="Example: embedq budget set --model text-embedding-3-small --tokens 50000000")
@_model
@_collection
@click.option(
    "--dollars", "most", metavar="N", callback=_amount, help="US dollars a day, by the catalogue's prices."
)
@click.option("--tokens", type=click.IntRange(0, MOST_TOKENS), help="Tokens a day.")
def set_(model: str | None, collection: str | None, most: Decimal | None, tokens: int | None) -> None:
    """Set the budget of a model or a collection for each day, in place of the one that there was.

    Workers heed it within about a second. 0: nothing is called.
    """
    if most is None and tokens is None:
        raise click.UsageError("nothing to set: give --dollars, --tokens, or both")
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        scope, name = _named(connection, settings, model, collection)
        if most is not None:
            _warn_of_prices(connection, settings, scope, name)
        set_budget(connection, scope, name, most, tokens)
        _show([each for each in usage_today(connection) if (each.scope, each.name) == (scope, name)])


@budget.command("list", epilog="Example: embedq budget list --json")
@click.option("--json", "is_json", is_flag=True, help="Machine-readable: a list of objects.")
def list_(is_json: bool) -> None:
    """List the budgets, and what is spent of them today."""
    with open_database(Settings.from_environment()) as connection:
        found = [each for each in usage_today(connection) if each.is_limited]
    if is_json:
        click.echo(as_json(found))
    elif found:
        _show(found)
    else:
        click.echo("there are no budgets; set one with `embedq budget set`")


@budget.command(epilog="Example: embedq budget reset --collection docs")
@_model
@_collection
def reset(model: str | None, collection: str | None) -> None:
    """Remove a budget: what a model or a collection costs is not limited any more."""
    scope, name = _scoped(model, collection)
    settings = Settings.from_environment()
    if scope == "model" and name in settings.catalogue:
        name = settings.catalogue.get(name).id
    with open_database(settings) as connection:
        if not reset_budget(connection, scope, name):
            raise StoreError(f"{scope} {name} has no budget; see `embedq budget list`")
    click.echo(f"{scope} {name} has no budget any more")


def _scoped(model: str | None, collection: str | None) -> tuple[Scope, str]:
    if model is not None and collection is None:
        return "model", model
    if collection is not None and model is None:
        return "collection", collection
    raise click.UsageError("give --model or --collection, and one of them")


def _named(
    connection: Connection, settings: Settings, model: str | None, collection: str | None
) -> tuple[Scope, str]:
    """What is meant; a name that is not known would be a budget that never ends."""
    scope, name = _scoped(model, collection)
    if scope == "model":
        return scope, settings.catalogue.get(name).id
    names = [each.name for each in list_collections(connection)]
    if name not in names:
        raise StoreError(f"there is no collection {name!r}; there are: {', '.join(names) or 'none'}")
    return scope, name


def _warn_of_prices(connection: Connection, settings: Settings, scope: Scope, name: str) -> None:
    """Dollars of a model without a price are never spent."""
    if scope == "model":
        models = [name]
    else:
        models = [each.model for each in list_collections(connection) if each.name == name]
    for model in models:
        if model not in settings.catalogue or settings.catalogue.get(model).usd_per_million_tokens is None:
            click.echo(
                f"warning: model {model} has no price here, so that its calls cost nothing; give "
                "usd_per_million_tokens in EMBEDQ_CONFIG of the workers, or set --tokens",
                err=True,
            )


def _show(found: list[UsageToday]) -> None:
    for each in found:
        parts = []
        if each.budget_dollars is not None:
            parts.append(f"{dollars(each.cost)} of {dollars(each.budget_dollars)}")
        if each.budget_tokens is not None:
            parts.append(f"{each.tokens:,} of {each.budget_tokens:,} tokens")
        state = "  SPENT: its texts wait until midnight UTC" if each.is_spent else ""
        click.echo(f"{each.scope} {each.name}  today {', '.join(parts)}{state}")
