"""What the database's refusals mean, whichever library brings them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from embedq.errors import ConfigurationError, EmbedqError, InvalidItem, OutboxUnavailable, UnknownCollection

_EXPLANATION = re.compile(r"(?s)^.*: (?P<explanation>.+) \(\w+\)$")


Parameters = Mapping[str, Any]
"""The values of the statement by their names."""


@contextmanager
def refusals(parameters: Parameters) -> Iterator[None]:
    """Raise what ``embedq.enqueue_many`` refuses as errors of embedq, with the database's as their cause.

    All others, such as a lost connection or a serialization failure, are the caller's transaction's own
    and pass as they are, so that whoever retries it still knows them.
    """
    try:
        yield
    except Exception as error:
        # The driver's own error: SQLAlchemy's would bring the texts along.
        cause = _innermost(error)
        found = _meaning(_Said(cause), str(parameters["collection"]))
        if found is None:
            raise
        raise found from cause


class _Said:
    """The fields of the server's error, by the names of psycopg or asyncpg."""

    def __init__(self, error: BaseException) -> None:
        fields = getattr(error, "diag", error)
        self.sqlstate = _text(getattr(fields, "sqlstate", None))
        self.rule = _text(getattr(fields, "constraint_name", None))
        self.message = _text(getattr(fields, "message_primary", None)) or str(error)
        self.detail = _text(getattr(fields, "message_detail", None)) or _text(getattr(error, "detail", None))


def _meaning(said: _Said, collection: str) -> EmbedqError | None:
    match said.sqlstate, said.rule:
        case "42P01", "unknown_collection":
            return UnknownCollection(collection, [name for name in said.detail.split(", ") if name])
        case "23514", rule if rule:
            explained = _EXPLANATION.match(said.message)
            return InvalidItem(said.detail, rule, explained["explanation"] if explained else said.message)
        case "22023", _:
            return ConfigurationError(said.message)
        case "42501", _:
            return OutboxUnavailable(
                "this role may not enqueue: let the schema's owner run SELECT embedq.grant_producer('<role>')"
            )
        case (("42883" | "3F000"), _):
            return OutboxUnavailable("this database has no outbox of embedq: run `embedq migrate` on it")
    return None


def _innermost(error: BaseException) -> BaseException:
    """What SQLAlchemy or Django wraps: the error of the driver."""
    while (wrapped := getattr(error, "orig", None) or error.__cause__) is not None:
        error = wrapped
    return error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
