"""What the demo shows: lines for everybody, and moving bars where a person watches."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from embedq_worker.demo.questions import Answer

Show = Callable[[int, int], None]
"""Takes how many texts are enqueued and how many are embedded so far."""

_WIDEST_ID = 36
_LINE_EVERY = 1.0
"""Seconds between lines of progress where no person watches."""


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """One line: what is being done, then how long it took and what the body put into the list."""
    click.echo(f"{what} ... ", nl=False)
    started = monotonic()
    notes: list[str] = []
    try:
        yield notes
    except BaseException:
        click.echo()
        raise
    click.echo(", ".join([*notes, f"{monotonic() - started:.1f} s"]))


@contextmanager
def progress(total: int) -> Iterator[Show]:
    """Show how far ``total`` texts are: two bars in a terminal, a line a second elsewhere."""
    rate = Rate()
    if not sys.stdout.isatty():
        yield Lines(total, rate).show
        return
    texts = TextColumn("{task.completed:>7,} of {task.total:,}")
    columns = (TextColumn("  {task.description}"), BarColumn(28), texts, TextColumn("{task.fields[rate]}"))
    with Bars(*columns, console=Console()) as bars:
        enqueued = bars.add_task("enqueued", total=total, rate="")
        embedded = bars.add_task("embedded", total=total, rate="")

        def show(sent: int, stored: int) -> None:
            bars.update(enqueued, completed=sent)
            bars.update(embedded, completed=stored, rate=f"{rate.of(stored):,.0f} texts/s")

        yield show


class Rate:
    """Texts a second since it was made."""

    def __init__(self) -> None:
        self._started = monotonic()

    def of(self, done: int) -> float:
        """The rate of ``done`` texts until now."""
        return done / max(monotonic() - self._started, 1e-6)


class Lines:
    """Progress as plain lines: one a second, and the last."""

    def __init__(self, total: int, rate: Rate) -> None:
        self._total = total
        self._rate = rate
        self._next = monotonic() + _LINE_EVERY

    def show(self, enqueued: int, embedded: int) -> None:
        """Print a line if one is due."""
        if monotonic() < self._next and embedded < self._total:
            return
        self._next = monotonic() + _LINE_EVERY
        rate = f"{self._rate.of(embedded):,.0f} texts/s"
        click.echo(f"  enqueued {enqueued:,}, embedded {embedded:,} of {self._total:,}, {rate}")


def show_sql(query: str) -> None:
    """A query, indented."""
    click.echo("\n".join(f"    {line}" for line in query.splitlines()) + ";")


def show_answers(question: str, answers: list[Answer], seconds: float) -> None:
    """A question and a line for each text that is near."""
    click.echo(f"\n{click.style(question, bold=True)}  ({seconds * 1_000:.0f} ms)")
    width = min(max((len(each.id) for each in answers), default=0), _WIDEST_ID)
    for each in answers:
        first_line = each.text.partition("\n")[0]
        line = f"  {each.distance:.3f}  {_cut(each.id, width):{width}}  {first_line}"
        click.echo(_cut(line, shutil.get_terminal_size().columns))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
