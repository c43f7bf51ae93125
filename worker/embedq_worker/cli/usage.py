"""``embedq usage``: what was used, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import click

from embedq_worker.cli.money import as_json
from embedq_worker.cli.session import open_database
from embedq_worker.money import dollars
from embedq_worker.settings import Settings
from embedq_worker.store.usage import By, UsageSum, usage_by


@click.command(epilog="Example: embedq usage --days 30 --by collection")
@click.option(
    "--days", type=click.IntRange(1, 36_500), default=7, show_default=True, help="Today among them, by UTC."
)
@click.option(
    "--by",
    type=click.Choice(["day", "model", "collection", "source"]),
    default="day",
    show_default=True,
    help="What to add up by. source: the service that enqueued, as it calls itself.",
)
@click.option("--json", "is_json", is_flag=True, help="Machine-readable: a list of objects.")
def usage(days: int, by: By, is_json: bool) -> None:
    """Show the calls, texts and tokens of the last days, and what they cost by the catalogue's prices.

    A cost is unknown where a model has no price. The service's bill is the truth: see docs/usage.md.
    """
    with open_database(Settings.from_environment()) as connection:
        found = usage_by(connection, by, days)
    click.echo(as_json(found) if is_json else _page(found, by))


def _page(found: Sequence[UsageSum], by: By) -> str:
    if not found:
        return "nothing was used in this time"
    rows = [(by, "calls", "texts", "tokens", "cost"), *(_row(each) for each in found), _total(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([*lines, *_notes(found)])


def _row(each: UsageSum) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (each.calls, each.texts, each.tokens))
    return (each.key or "(not named)", *counts, dollars(each.cost))


def _total(found: Sequence[UsageSum]) -> tuple[str, ...]:
    costs = [each.cost for each in found if each.cost is not None]
    counts = (f"{sum(getattr(each, name) for each in found):,}" for name in ("calls", "texts", "tokens"))
    return ("together", *counts, dollars(sum(costs, Decimal(0)) if costs else None))


def _notes(found: Sequence[UsageSum]) -> list[str]:
    notes = []
    if unpriced := sum(each.unpriced_tokens for each in found):
        notes.append(f"{unpriced:,} tokens are of models without a price, and not in the cost")
    if estimated := sum(each.estimated_tokens for each in found):
        notes.append(f"{estimated:,} tokens are estimates: the service did not say")
    return notes
