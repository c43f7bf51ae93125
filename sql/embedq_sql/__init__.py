"""The SQL of embedq: ``schema.sql``, migrations, named statements, templates for a collection's own objects.

In ``queries/*.sql`` a statement stands below a line ``-- name: x`` and the comment lines that describe it. In
a template, ``{name}`` is composed with ``psycopg.sql``. All is text of this package, hence ``LiteralString``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

_NAMED = re.compile(r"^-- name: (\w+)\n(?:--[^\n]*\n)*(.*?)\s*(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@cache
def _read(folder: str) -> dict[str, LiteralString]:
    entries = sorted(files(__name__).joinpath(folder).iterdir(), key=lambda entry: entry.name)
    return {each.name.removesuffix(".sql"): each.read_text("utf-8") for each in entries if each.is_file()}


@cache
def _statements() -> dict[str, LiteralString]:
    return dict(pair for text in _read("queries").values() for pair in _NAMED.findall(text))


def statement(name: str) -> LiteralString:
    """The named statement, without its description. Raises ``KeyError``."""
    return _statements()[name]


def template(name: str) -> LiteralString:
    """The text of ``templates/<name>.sql``; a name may have one folder before it. Raises ``KeyError``."""
    folder, _, plain = f"templates/{name}".rpartition("/")
    return _read(folder)[plain]


def migrations() -> dict[str, LiteralString]:
    """The migrations, name to text, in the order in which they are to be applied."""
    return _read("migrations")
