"""What every command opens: settings, the database, the broker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from types import ModuleType

import click
from psycopg.errors import Diagnostic

from embedq.broker import Broker
from embedq.cli import quick_import
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import list_collections
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.registry import publish_registry

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # asked, not listened on


def reachable(address: str) -> str:
    """Where this machine asks a server that listens on ``address``."""
    return _ANYWHERE.get(address, address)


@contextmanager
def open_database(settings: Settings) -> Iterator[Connection]:
    """A connection to the database, whose warnings are shown. Raises ``DatabaseAway``."""
    connection = connect(settings.database_url)
    connection.add_notice_handler(_show)
    try:
        yield connection
    finally:
        connection.close()


def _show(notice: Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        click.echo(f"warning: {notice.message_primary}", err=True)


@contextmanager
def open_broker(settings: Settings) -> Iterator[Broker]:
    """The broker; connects with the first command, which raises ``BrokerUnavailable``."""
    broker = Broker(settings.broker_url, settings.key_prefix)
    try:
        yield broker
    finally:
        broker.close()


def begin_with_redis() -> None:
    """Have redis-py imported in a thread, while Postgres is being connected to and asked.

    Without OpenTelemetry, which redis-py imports where it is installed, to count for applications
    that set it up: it takes half as long as redis-py itself, and of a command nobody hears of it.
    """
    Thread(target=_import_redis).start()


def _import_redis() -> None:
    with quick_import(), _absent("opentelemetry"):
        import_module("redis")


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """Meanwhile a module is as if it were not installed, unless it was imported before."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: not to be imported
    if module in modules:
        yield
        return
    modules[module] = None
    try:
        yield
    finally:
        del modules[module]


def publish(connection: Connection, broker: Broker, settings: Settings) -> list[Collection]:
    """Publish the registry to producers; returns the collections.

    Raises ``StoreError`` and ``BrokerUnavailable``.
    """
    collections = list_collections(connection)
    broker.call(lambda client: publish_registry(client, collections, settings.key_prefix))
    return collections
