"""The rows that cannot become items: named by place and reason, never by their text."""

from __future__ import annotations

import click

_SHOWN = 10


class BadRows:
    """Their count; the first ten of a run are shown as they come, the rest are counted."""

    def __init__(self, name: str) -> None:
        self.count = 0
        """Of the whole load: a load that goes on begins with those of before."""
        self._name = name
        self._seen = 0

    def add(self, place: object, reason: str) -> None:
        """One more, at ``place``: the number of its line or row, or its file."""
        self.count += 1
        self._seen += 1
        if self._seen <= _SHOWN:
            click.echo(f"{self._name}:{place}: {reason}", err=True)
        elif self._seen == _SHOWN + 1:
            click.echo("more bad lines are counted, not shown", err=True)
