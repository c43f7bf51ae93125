"""``embedq status`` for people: what needs somebody first, then collections, models and workers.

Colours are for what needs a person. In a pipe nothing is cut off and nothing is coloured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from embedq.wording import counted
from embedq_worker.cli.snapshot import Snapshot
from embedq_worker.cli.standing import Standing, duration, notes, summary
from embedq_worker.cli.status_fields import Budget, CollectionStatus, Move, Status, WorkerStatus
from embedq_worker.money import dollars
from embedq_worker.store.fleet.reports import Silent
from embedq_worker.store.outbox.unsettled import COUNTED
from embedq_worker.store.outbox.watches import AMISS_STATES

_ALARM = "bold red"
_WARNING = "yellow"
_WIDE = 110
"""Columns from which a table has room for models and money."""
_FIGURES = ("rows", "cover", "pending", "oldest", "items/s", "left", "dead")
_MORE_FIGURES = ("outbox", "live", "bulk", "in hand", "tokens today", "cost today")
"""The outbox in rows, the three after it in messages."""
_OUTBOX_PATIENCE = 5.0
"""Seconds after which it is worth a word that a row is not sent."""
_MOST_ALARMS = 3
"""On a screen: a paused model, or a lost schema, stops many collections."""
_PIPE_WIDTH = 10_000
"""Columns of a pipe: no line is ever cut."""


def console() -> Console:
    """Standard output, at its own width where it is a terminal."""
    out = Console(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Console(highlight=False, width=_PIPE_WIDTH, color_system=None)


def page(found: Snapshot, width: int, rows: int | None = None) -> RenderableType:
    """All of it, for so many columns; ``rows`` collections at most, those with work first."""
    status = found.status
    parts: list[RenderableType] = [_headline(status)]
    parts += [Text(f"! {line}", _ALARM) for line in _fitting(list(_alarms(status)), rows)]
    chosen = _chosen(status.collections, rows)
    said = [line for each in chosen for line in _notes(each)]
    if status.collections:
        parts += ["", _collections(chosen, width)]
        if len(status.collections) > len(chosen):
            parts.append(f"{len(status.collections) - len(chosen)} more; `embedq status` shows all")
        parts += said if rows is None else []
    if found.standings:
        parts += ["", *(line for each in found.standings for line in _model_lines(each))]
    parts += [_budget(each) for each in status.budgets]
    if status.workers or status.silent:
        parts += ["", _workers(status.workers), *map(_silent, status.silent)]
    if status.other_dead_letters:
        letters = counted(status.other_dead_letters, "dead letter")
        parts.append(f"{letters} of no collection; see `embedq dead-letters list`")
    if rows is not None:  # a screen cuts off what comes last
        parts += said
    return Group(*parts)


def blind(trouble: str, seconds: float, shown: RenderableType | None) -> RenderableType:
    """While a server is away: why, and what was seen before that."""
    said = Text(f"! {trouble}", _ALARM)
    if shown is None:
        return said
    return Group(said, Text(f"as it was {duration(seconds)} ago:", _ALARM), "", shown)


def _headline(status: Status) -> str:
    if not status.collections:
        return "no collections yet; create one with `embedq collection create`"
    known = [each.pending_items for each in status.collections if each.pending_items is not None]
    rate = sum(each.items_per_second for each in status.collections)
    workers = len(status.workers)
    return (
        f"{counted(len(status.collections), 'collection')}; "
        f"about {counted(sum(known), 'item')} pending (estimate), {_rate(rate)} items/s; "
        f"{counted(workers, 'worker process', 'worker processes')}"
    )


def _fitting(alarms: list[str], rows: int | None) -> list[str]:
    """Those that leave a screen room for the rest."""
    if rows is None or len(alarms) <= _MOST_ALARMS:
        return alarms
    return [*alarms[:_MOST_ALARMS], f"{len(alarms) - _MOST_ALARMS} more such; `embedq status` shows all"]


def _alarms(status: Status) -> Iterator[str]:
    """What stands still, and stays so until a person does something."""
    waiting = [each for each in status.collections if each.in_hand or any(each.queued.values())]
    if waiting and not status.workers:
        where = counted(len(waiting), "collection")
        yield f"no worker reports, and messages wait in {where}: start `embedq worker`"
    paused = {each.id for each in status.models if each.paused}
    for each in status.collections:
        if each.model in paused:
            yield f"{each.name} waits: its model {each.model} is PAUSED, see below"
        if each.rows is None:
            yield f"{each.name}: its table or a column is missing; put it back, or drop the collection"
    for budget in status.budgets:
        if budget.is_spent:
            yield f"the budget of {budget.scope} {budget.name} is spent: its texts wait for midnight UTC"


def _chosen(collections: Sequence[CollectionStatus], rows: int | None) -> Sequence[CollectionStatus]:
    if rows is None or len(collections) <= rows:
        return collections
    return sorted(collections, key=lambda each: -(each.pending_items or sum(each.queued.values())))[:rows]


def _collections(collections: Sequence[CollectionStatus], width: int) -> Table:
    is_wide = width >= _WIDE
    table = _table()
    table.add_column("collection", overflow="fold")
    if is_wide:
        table.add_column("model", overflow="fold")
    for name in _FIGURES + (_MORE_FIGURES if is_wide else ()):
        table.add_column(name, justify="right", no_wrap=True)
    for each in collections:
        table.add_row(*_row(each, is_wide))
    return table


def _row(each: CollectionStatus, is_wide: bool) -> list[RenderableType]:
    return [
        each.name,
        *([each.model] if is_wide else []),
        "missing" if each.rows is None else _about(each.rows, each.rows_are_estimated),
        "-" if each.coverage is None else _share(each.coverage),
        _pending(each),
        _age(each),
        _rate(each.items_per_second),
        "-" if each.eta is None else _span(each.eta),
        Text(f"{each.dead_letters:,}", _WARNING if each.dead_letters else ""),
        *(_more_figures(each) if is_wide else []),
    ]


def _pending(each: CollectionStatus) -> str:
    messages = each.in_hand + sum(count for lane, count in each.queued.items() if lane != "query")
    if each.pending_items is None:
        return f"{messages:,} msgs"
    return _about(each.pending_items, is_estimate=messages > 0)


def _age(each: CollectionStatus) -> str:
    known = [age for age in each.oldest.values() if age is not None]
    return _span(max(known)) if known else "-"


def _notes(each: CollectionStatus) -> Iterator[Text]:
    """What there is to say of one collection beside its figures."""
    if each.queued["query"]:
        yield Text(
            f"{each.name}: {counted(each.queued['query'], 'query', 'queries')} queued",
            _WARNING,
        )
    if each.move is not None:
        yield Text(f"{each.name}: {_moving(each, each.move)}")
    if each.outbox_oldest is not None and each.outbox_oldest > _OUTBOX_PATIENCE:
        unsent = f"of {_counted(each.outbox)} rows in the outbox the oldest unsent waits"
        yield Text(f"{each.name}: {unsent} for {_span(each.outbox_oldest)}", _WARNING)
    if each.watch in AMISS_STATES:
        behind = f"does not follow its table ({each.watch}); see `embedq watch list`"
        yield Text(f"{each.name}: {behind}", _WARNING)
    if each.dead_letters:
        yield Text(f"{each.name}: see `embedq dead-letters list --collection {each.name}`")
    for advice in each.index_advice:
        yield Text(f"{each.name}: {advice.text}", _WARNING)


def _moving(each: CollectionStatus, move: Move) -> str:
    filled = "" if move.filled is None else f", {_share(move.filled)} filled"
    if move.state == "next":
        then = "--switch" if not move.unfilled else "it goes on with"
        return f"moves to {move.model}{filled}; {then}: `embedq collection migrate {each.name}`"
    return f"has moved from {move.model}{filled}; end it: `embedq collection migrate {each.name} --finish`"


def _model_lines(each: Standing) -> list[Text]:
    return [Text(f"model {summary(each)}"), *(Text.from_ansi(f"  {note}") for note in notes(each))]


def _budget(each: Budget) -> Text:
    parts = []
    if each.dollars is not None:
        parts.append(f"{dollars(each.spent_dollars)} of {dollars(each.dollars)}")
    if each.tokens is not None:
        parts.append(f"{each.spent_tokens:,} of {each.tokens:,} tokens")
    said = f"budget of {each.scope} {each.name}: {', '.join(parts)} today"
    return Text(said, _ALARM if each.is_spent else "")


def _workers(workers: Sequence[WorkerStatus]) -> Table:
    versions = [each.version for each in workers]
    usual = max(versions, key=versions.count, default="")
    table = _table()
    table.add_column("worker", overflow="fold")
    for name in ("pid", "version", "up", "in hand", "items/s", "items done"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in workers:
        differs = each.version != usual
        table.add_row(
            each.host + (" (stopping)" if each.is_stopping else ""),
            str(each.pid),
            Text(each.version + (" differs" if differs else ""), _WARNING if differs else ""),
            _span(each.uptime),
            f"{each.items_in_hand:,}",
            _rate(each.items_per_second),
            f"{each.items:,}",
        )
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)


def _silent(each: Silent) -> Text:
    who = f"worker process {each.process}"
    if each.lease < 0:
        held = f"is dead or frozen, with {counted(each.messages, 'message')} in its hands"
        return Text(f"{who} {held}: a running worker takes them over", _ALARM)
    return Text(f"{who} does not report: it has just started, or is of an older version", _WARNING)


def _about(count: int, is_estimate: bool) -> str:
    return f"~{count:,}" if is_estimate else f"{count:,}"


def _share(share: float) -> str:
    """100 % only when it is all."""
    return "100 %" if share >= 1 else f"{min(99.9, 100 * share):.1f} %"


def _rate(rate: float) -> str:
    return f"{rate:,.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def _span(seconds: float) -> str:
    """A duration in one unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _more_figures(each: CollectionStatus) -> list[str]:
    messages = (each.queued["live"], each.queued["bulk"], each.in_hand, each.tokens_today)
    return [_counted(each.outbox), *(f"{count:,}" for count in messages), _dollars(each)]


def _counted(rows: int) -> str:
    return f"{rows:,}+" if rows >= COUNTED else f"{rows:,}"


def _dollars(each: CollectionStatus) -> str:
    if each.cost_today is None:
        return "no price"
    return dollars(each.cost_today)
