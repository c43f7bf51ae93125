"""What a PromQL query reads: which metrics, and which of their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, MatrixSelector, StringLiteral, VectorSelector

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_OURS = frozenset({"job", "instance", "le"})
"""Labels that Prometheus adds to what it scrapes, and that each histogram has."""
_MADE, _SOURCE = 1, 3
"""Places of the labels among the arguments of ``label_replace``."""


def metrics_read(query: str) -> dict[str, set[str]]:
    """The metrics that a query reads, each with the labels that it is asked for.

    What an aggregation or a match names counts for every metric below it. Raises ``ValueError`` where the
    query is no PromQL.
    """
    reader = _Reader()
    promql_parser.walk(promql_parser.parse(query), reader.enter, reader.leave)
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self._named: list[set[str]] = [set()]
        """Labels named above, expression by expression."""

    def enter(self, expression: Expr) -> None:
        self._named.append((self._named[-1] - set(_made(expression))) | set(_named(expression)))
        if isinstance(expression, MatrixSelector):
            self._note(expression.vector_selector)
        elif isinstance(expression, VectorSelector):
            self._note(expression)

    def leave(self, _: Expr) -> None:
        self._named.pop()

    def _note(self, selector: VectorSelector) -> None:
        assert selector.name is not None, f"a selector without a name: {selector}"
        asked = {matcher.name for matcher in selector.matchers.matchers}
        self.found.setdefault(selector.name, set()).update((asked | self._named[-1]) - _NOT_OURS)


def _named(expression: Expr) -> Iterable[str]:
    """The labels that an expression names itself."""
    if isinstance(expression, AggregateExpr) and expression.modifier is not None:
        return expression.modifier.labels
    if isinstance(expression, BinaryExpr) and expression.modifier is not None:
        matching = expression.modifier.matching
        return (matching.labels if matching else []) + (expression.modifier.group_labels or [])
    return _relabelled(expression, _SOURCE)


def _made(expression: Expr) -> Iterable[str]:
    """The labels that an expression makes of others: no metric below it needs to have them."""
    return _relabelled(expression, _MADE)


def _relabelled(expression: Expr, place: int) -> Iterable[str]:
    if isinstance(expression, Call) and expression.func.name == "label_replace":
        label = expression.args[place]
        assert isinstance(label, StringLiteral)
        return (label.val,)
    return ()
