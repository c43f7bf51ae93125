"""Who may follow a table, and that applications neither need a right of embedq's nor gain one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from embedq_worker.store.postgres.connections import Connection
from tests.support.watching import WATCH, followed, put, wanted


@pytest.fixture
def application(watched: Connection) -> Iterator[Connection]:
    """The connection as a role that may write the table, owns a schema, and has no right of embedq's."""
    role = sql.Identifier(f"shop_{watched.info.dbname}")
    for each in (
        "CREATE ROLE {}",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON product TO {}",
        "CREATE SCHEMA evil AUTHORIZATION {}",
        "SET ROLE {}",
    ):
        watched.execute(sql.SQL(each).format(role))
    yield watched
    watched.execute("RESET ROLE")
    watched.execute(sql.SQL("DROP OWNED BY {}").format(role))
    watched.execute(sql.SQL("DROP ROLE {}").format(role))


def test_rights(application: Connection) -> None:
    """An application needs none of ours, and gains none: not by its search path, and not by our functions."""
    application.execute(
        "CREATE FUNCTION evil.coalesce_text(text, text) RETURNS text LANGUAGE sql RETURN current_user"
    )
    application.execute(
        "CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.coalesce_text)"
    )
    application.execute(
        "CREATE FUNCTION evil.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql RETURN '[]'::jsonb"
    )
    application.execute("SET search_path = evil, pg_catalog, public")
    application.execute("UPDATE product SET name = 'x' WHERE sku = 'a'")
    application.execute("DELETE FROM product WHERE sku = 'b'")
    for forbidden in (
        "SELECT * FROM embedq.outbox",
        "SELECT embedq.products_fill(1)",
        "CREATE TRIGGER mine AFTER TRUNCATE ON product EXECUTE FUNCTION embedq.products_changed()",
        "SELECT embedq.watch('product', 'sku', 'name', 'products')",
        "SELECT embedq.unwatch('products')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(forbidden)
    application.execute("RESET ROLE")
    application.execute("RESET search_path")

    assert put(application) == [("a", "x1"), ("b", None)]
    assert followed(application) == wanted(application)


def test_rights_of_workers_without_the_function_of_a_watch(watched: Connection) -> None:
    """It was dropped with the role that owned it; workers' rights are granted all the same."""
    watched.execute("DROP FUNCTION embedq.products_fill(integer)")
    watched.execute("SELECT embedq.grant_worker(current_user::regrole)")


def test_watch_is_for_the_owner(application: Connection) -> None:
    """Rights on the schema embedq are not enough; the message names the owner."""
    role = application.execute("SELECT current_user").fetchall()[0][0]
    application.execute("RESET ROLE")
    application.execute(sql.SQL("GRANT ALL ON SCHEMA embedq TO {}").format(sql.Identifier(role)))
    application.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))

    with pytest.raises(psycopg.Error, match="cannot be watched: it belongs to role postgres"):
        application.execute("SELECT embedq.watch('public.product', 'sku', 'name', 'products')")


def test_a_watch_runs_with_the_rights_of_who_called_for_it_last(application: Connection) -> None:
    """Also where its functions were another's, who may have lost what they need."""
    role = application.execute("SELECT current_user").fetchall()[0][0]
    application.execute("RESET ROLE")
    for each in ("products_changed()", "products_fill(integer)"):
        application.execute(
            sql.SQL("ALTER FUNCTION embedq.{} OWNER TO {}").format(sql.SQL(each), sql.Identifier(role))
        )
    application.execute(WATCH)

    owners = application.execute(
        "SELECT DISTINCT proowner::regrole = current_user::regrole FROM pg_proc "
        "WHERE pronamespace = 'embedq'::regnamespace AND starts_with(proname, 'products_')"
    )
    assert owners.fetchall() == [(True,)]
