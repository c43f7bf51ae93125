"""What a PromQL query reads: which metrics, and which of their labels."""

from __future__ import annotations

from dataclasses import dataclass
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

    What an aggregation or a match names counts for every metric below it that gives labels. Raises
    ``ValueError`` where the query is no PromQL.
    """
    reader = _Reader()
    promql_parser.walk(promql_parser.parse(query), reader.enter, reader.leave)
    return reader.found


@dataclass
class _Expression:
    """One that is being walked through."""

    asked: set[str]
    """Labels that it and what is above it name."""
    matched: set[str] | None = None
    """Of ``and`` and ``unless``: the match's. Their second operand filters the first, and gives no label."""
    operands: int = 0
    """Entered so far."""

    def asked_of_next(self) -> set[str]:
        """The labels that its next operand is asked for."""
        self.operands += 1
        return self.asked if self.matched is None or self.operands == 1 else self.matched


class _Reader:
    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self._above = [_Expression(set())]

    def enter(self, expression: Expr) -> None:
        named = set(_named(expression))
        asked = (self._above[-1].asked_of_next() - set(_made(expression))) | named
        self._above.append(_Expression(asked, named if _is_filter(expression) else None))
        if isinstance(expression, MatrixSelector):
            self._note(expression.vector_selector)
        elif isinstance(expression, VectorSelector):
            self._note(expression)

    def leave(self, _: Expr) -> None:
        self._above.pop()

    def _note(self, selector: VectorSelector) -> None:
        assert selector.name is not None, f"a selector without a name: {selector}"
        asked = {matcher.name for matcher in selector.matchers.matchers}
        self.found.setdefault(selector.name, set()).update((asked | self._above[-1].asked) - _NOT_OURS)


def _is_filter(expression: Expr) -> bool:
    return isinstance(expression, BinaryExpr) and str(expression.op) in ("and", "unless")


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
