"""Rights on a collection's column of vectors: after a switch they are on the column of that name."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from embedq_sql import statement, template
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection

_PRIVILEGES: dict[str, LiteralString] = {
    "SELECT": "SELECT",
    "INSERT": "INSERT",
    "UPDATE": "UPDATE",
    "REFERENCES": "REFERENCES",
}


def copy_grants(connection: Connection, collection: Collection) -> None:
    """Grant on the shadow's column what was granted on the collection's own: whoever may read the vectors by
    their name must be able to after the two change places.

    Raises the driver's errors.
    """
    named = {"table": collection.table.as_string(connection), "column": collection.vector_column}
    granted = connection.execute(statement("column_grants"), named).fetchall()
    for privilege, role, is_grantable in granted:
        connection.execute(
            sql.SQL(template("grant_column")).format(
                privilege=sql.SQL(_PRIVILEGES[privilege]),
                vector=sql.Identifier(collection.as_shadow().vector_column),
                table=collection.table,
                grantee=sql.SQL("PUBLIC") if role is None else sql.Identifier(role),
                option=sql.SQL("WITH GRANT OPTION" if is_grantable else ""),
            )
        )
