"""What tests do to a Postgres server from outside, and how they reach it through a proxy."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support.proxy import Proxy


def socket_of(url: str) -> Path:
    """The Unix socket of an embedded server."""
    parts = conninfo_to_dict(url)
    return Path(str(parts["host"]), f".s.PGSQL.{parts['port']}")


def through(proxy: Proxy, url: str, **options: str) -> str:
    """The same database through a proxy."""
    more = "".join(f"&{name}={value}" for name, value in options.items())
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{conninfo_to_dict(url)['dbname']}?sslmode=disable{more}"


def set_read_only(url: str, value: bool) -> None:
    """Let the whole server be read-only, or not, for sessions that are open too."""
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        if value:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        else:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")
