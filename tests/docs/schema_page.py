"""``docs/schema.md``: tables, views and functions, as their comments in the database say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection

_HEAD = """\
# The schema

Made from the database's own comments by `make docs`; a test fails when this page is older. How to use it:
[sql.md](sql.md), [usage.md](usage.md).

## Functions of a collection

Of one that is called `docs`, with 3 dimensions; each collection has its own. Of an own table without such
columns those are missing that need content or metadata.

"""
_OURS = """
## Functions of the schema embedq

Some are there for the others alone; whoever may call those may call these.

"""
_RELATIONS = """
## Tables and views of the schema embedq

Only workers and commands write into them.
"""
_FUNCTIONS = """
SELECT proname || '(' || pg_get_function_arguments(oid) || ')', obj_description(oid, 'pg_proc')
FROM pg_proc
WHERE pronamespace = %(schema)s::text::regnamespace AND obj_description(oid, 'pg_proc') IS NOT NULL
      AND (%(schema)s::text = 'embedq' OR obj_description(oid, 'pg_proc') LIKE 'embedq: %%')
ORDER BY proname, pg_get_function_arguments(oid)
"""
_UNSAID = """
SELECT proname
FROM pg_proc
WHERE pronamespace = 'embedq'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
"""
_COLUMNS = """
SELECT relname, coalesce(obj_description(c.oid, 'pg_class'), ''), attname, format_type(atttypid, atttypmod),
       coalesce(col_description(c.oid, attnum), '')
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'embedq'::regnamespace AND relkind IN ('r', 'v')
ORDER BY relname, attnum
"""


def render(connection: Connection) -> str:
    """The page as Markdown, of a migrated database without collections; makes one there."""
    create_collection(connection, name="docs", model=Model(id="model", dimensions=3))
    docs, ours = (_table(connection.execute(_FUNCTIONS, {"schema": name})) for name in ("public", "embedq"))
    columns = list(connection.execute(_COLUMNS))
    relations = [_relation(name, list(rows)) for name, rows in groupby(columns, lambda row: str(row[0]))]
    return "".join((_HEAD, docs, _OURS, ours, _RELATIONS, *relations))


def undocumented(connection: Connection) -> list[str]:
    """What in the schema has no comment: functions, tables and views."""
    relations = [row[0] for row in connection.execute(_COLUMNS) if not row[1]]
    return sorted({*(row[0] for row in connection.execute(_UNSAID)), *relations})


def _relation(name: str, rows: Sequence[Any]) -> str:
    columns = ((f"{column} {kind}", said) for _, _, column, kind, said in rows)
    return f"\n### embedq.{name}\n\n{rows[0][1]}\n\n{_table(columns)}"


def _table(rows: Iterable[Any]) -> str:
    cells = ((name, said.removeprefix("embedq: ").replace("|", r"\|")) for name, said in rows)
    return "| | |\n|---|---|\n" + "".join(f"| `{name}` | {said} |\n" for name, said in cells)
