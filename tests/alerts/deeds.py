"""The deeds, by name: each befalls the installation while its block lasts, and is undone at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from celery import Celery

from embedq.testing import faults
from embedq_worker.cli.session import open_database
from embedq_worker.store.budgets import reset_budget, set_budget
from embedq_worker.store.drift import list_states, want_check
from embedq_worker.store.fleet.backlog import purge
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.usage import usage_today
from tests.alerts.scene import Scene
from tests.bench.sampler import Sampler
from tests.support.proxy import Proxy

_CUT_EVERY = 10.0
"""Seconds. A cut is an alert when it comes again."""
_CUT_AFTER = 500
"""Bytes: in the middle of a message. A pool replaces a connection that is cut while idle without a word."""
_KILL_EVERY = 8.0
"""Seconds: each new process has to be asked once before it dies."""
_SETTLED = 2.0
"""Seconds after which a process has reported what it used."""
_PATIENCE = 30.0
_MESSAGE = 256
"""Items of a full message."""
_BACKLOG = 400
"""Full messages: more than workers take in hand and a relay leaves in a queue."""


@contextmanager
def _emptied(scene: Scene) -> Iterator[None]:
    scene.world.broker.flushall()
    yield


@contextmanager
def _kill(scene: Scene) -> Iterator[None]:
    scene.load(40 * _MESSAGE)  # else it may have nothing in its hands
    scene.crew.kill(scene.crew.running()[0])
    yield


@contextmanager
def _kill_again(scene: Scene) -> Iterator[None]:
    def kill() -> None:
        for member in scene.crew.running():
            if member.slot == 0:
                scene.crew.kill(member)

    with Sampler(_KILL_EVERY, kill):
        yield


@contextmanager
def _stop(scene: Scene, *, all_of_them: bool = False) -> Iterator[None]:
    members = scene.crew.running()[: None if all_of_them else 1]
    for member in members:
        scene.crew.stop(member)
    yield
    for member in members:
        scene.crew.resume(member)


def _stop_all(scene: Scene) -> AbstractContextManager[None]:
    return _stop(scene, all_of_them=True)


@contextmanager
def _valkey(scene: Scene) -> Iterator[None]:
    scene.world.stop_valkey(kill=True)
    yield
    scene.world.start_valkey()


@contextmanager
def _postgres(scene: Scene) -> Iterator[None]:
    scene.world.stop_postgres()
    yield
    scene.world.start_postgres()


def _cut_broker(scene: Scene) -> AbstractContextManager[None]:
    return _cut(scene.world.broker_proxy)


def _cut_database(scene: Scene) -> AbstractContextManager[None]:
    return _cut(scene.world.database_proxy)


@contextmanager
def _cut(proxy: Proxy) -> Iterator[None]:
    with Sampler(_CUT_EVERY, lambda: proxy.cut_after(_CUT_AFTER)):
        yield


@contextmanager
def _bad_sender(scene: Scene) -> Iterator[None]:
    """A client that checks nothing sends a message of empty texts."""
    items = [{"id": f"empty-{number}", "text": ""} for number in range(_MESSAGE)]
    job = {"v": 1, "collection": "sender", "items": items}
    with Celery(broker=scene.world.valkey.url) as client:
        client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.sender", ignore_result=True)
    yield


@contextmanager
def _most_spent(scene: Scene) -> Iterator[None]:
    """Nine tenths of a budget of tokens; what is enqueued meanwhile would spend the rest."""
    scene.rest("thrift")
    with open_database(scene.settings) as connection:
        set_budget(connection, "collection", "thrift", None, math.ceil(_settled_tokens(connection) / 0.9))
        yield
        reset_budget(connection, "collection", "thrift")


def _settled_tokens(connection: Connection) -> int:
    """What the collection has used, once that stands still."""
    tokens = -1
    while tokens != (now := _tokens(connection)):
        tokens = now
        time.sleep(_SETTLED)
    return tokens


def _tokens(connection: Connection) -> int:
    today = usage_today(connection)
    return next((each.tokens for each in today if (each.scope, each.name) == ("collection", "thrift")), 0)


@contextmanager
def _all_spent(scene: Scene) -> Iterator[None]:
    with open_database(scene.settings) as connection:
        set_budget(connection, "collection", "money", None, 0)
        yield
        reset_budget(connection, "collection", "money")


@contextmanager
def _other_model(scene: Scene) -> Iterator[None]:
    with open_database(scene.settings) as connection:
        scene.world.api.configure(model="drifter", salt="another")
        want_check(connection, "drifter")
        yield
        scene.world.api.configure(model="drifter", salt="")
        want_check(connection, "drifter")


def _first_check(scene: Scene) -> None:
    """Without first vectors nothing can be found."""
    deadline = time.monotonic() + _PATIENCE
    with open_database(scene.settings) as connection:
        want_check(connection, "drifter")
        while any(each.is_wanted for each in list_states(connection) if each.model == "drifter"):
            assert time.monotonic() < deadline, "no worker has checked the model for drift"
            time.sleep(0.1)


@contextmanager
def _triggers_off(scene: Scene) -> Iterator[None]:
    with open_database(scene.settings) as connection:
        connection.execute("ALTER TABLE source_of_watched DISABLE TRIGGER USER")
        yield
        connection.execute("ALTER TABLE source_of_watched ENABLE TRIGGER USER")


def _watch(scene: Scene) -> None:
    scene.rest("watched")
    with open_database(scene.settings) as connection:
        connection.execute("CREATE TABLE source_of_watched (id text PRIMARY KEY, body text NOT NULL)")
        connection.execute(
            "SELECT embedq.watch('source_of_watched', id => 'id', text => 'body', collection => 'watched')"
        )


@contextmanager
def _slow_writes(scene: Scene) -> Iterator[None]:
    """Each transaction that writes the ledger takes six seconds."""
    with open_database(scene.settings) as connection:
        connection.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(6); RETURN NULL; END'"
        )
        connection.execute(
            "CREATE TRIGGER slow BEFORE INSERT ON embedq.item FOR EACH STATEMENT EXECUTE FUNCTION slow()"
        )
        yield
        connection.execute("DROP FUNCTION slow CASCADE")


@contextmanager
def _backlog(scene: Scene) -> Iterator[None]:
    """A model whose key is refused, a full queue of its texts, and one more in the outbox."""
    scene.world.api.inject(faults.RefusedKey(), model="backlog")
    scene.load(_BACKLOG * _MESSAGE, "backlog")
    with open_database(scene.settings) as connection:
        connection.execute("SELECT embedq.enqueue('backlog', 'late', 'a text of a transaction')")
    yield
    purge(scene.world.broker, "backlog")  # a busy machine would be at it for long
    scene.mend()


BEFORE: Mapping[str, Callable[[Scene], None]] = {"other model": _first_check, "triggers off": _watch}
"""What is done before a deed, and is none itself."""

DOING: Mapping[str, Callable[[Scene], AbstractContextManager[None]]] = {
    "emptied": _emptied,
    "cut broker": _cut_broker,
    "cut database": _cut_database,
    "kill": _kill,
    "kill again": _kill_again,
    "stop": _stop,
    "stop all": _stop_all,
    "valkey": _valkey,
    "postgres": _postgres,
    "bad sender": _bad_sender,
    "most spent": _most_spent,
    "all spent": _all_spent,
    "other model": _other_model,
    "triggers off": _triggers_off,
    "slow writes": _slow_writes,
    "backlog": _backlog,
}
