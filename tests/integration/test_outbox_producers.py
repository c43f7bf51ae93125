"""`enqueue_in` by each library's connections: the job exists if and only if the transaction commits."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import django
import psycopg
import pytest
import sqlalchemy
from django.conf import settings as django_settings
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import embedq
from embedq import ConfigurationError, InvalidItem, Item, OutboxUnavailable, Producer, UnknownCollection
from embedq.testing import MemoryProducer
from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.roles import role

MODEL = Model(id="small", dimensions=3)
ROWS = "SELECT id, text, metadata, source, is_bulk FROM embedq.outbox ORDER BY number"


class Rollback(Exception):
    """What a caller's code raises within its transaction."""


class Base(DeclarativeBase):
    """Of the caller's tables."""


class Product(Base):
    """A row that the caller keeps."""

    __tablename__ = "product"

    sku: Mapped[int] = mapped_column(primary_key=True)
    about: Mapped[str]


@pytest.fixture
def owner(database_url: str) -> Iterator[Connection]:
    """A connection beside the caller's, to a database with a table and two collections."""
    with connect(database_url) as opened:
        create_collection(opened, name="docs", model=MODEL)
        create_collection(opened, name="numbered", model=MODEL, versions="given")
        opened.execute("CREATE TABLE product (sku int PRIMARY KEY, about text)")
        yield opened


def engine_url(url: str, driver: str) -> sqlalchemy.URL:
    """SQLAlchemy's form of the test database's URL."""
    return sqlalchemy.make_url(url).set(drivername=f"postgresql+{driver}")


@pytest.fixture
def engine(database_url: str) -> Iterator[sqlalchemy.Engine]:
    """SQLAlchemy's, by psycopg."""
    made = sqlalchemy.create_engine(engine_url(database_url, "psycopg"))
    yield made
    made.dispose()


@pytest.fixture
def django_alias(database_url: str) -> Iterator[str]:
    """The name that Django knows the test's database by."""
    if not django_settings.configured:
        django_settings.configure()
        django.setup()
    from django.db import connections

    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port", "PASSWORD": "password"}
    database = {name: parts[part] for name, part in names.items() if part in parts}
    database["ENGINE"] = "django.db.backends.postgresql"
    connections.settings["shop"] = connections.configure_settings({"default": database})["default"]
    yield "shop"
    connections["shop"].close()
    del connections["shop"]
    del connections.settings["shop"]


def rows(owner: Connection) -> list[tuple[Any, ...]]:
    """What others see of the outbox."""
    return owner.execute(ROWS).fetchall()


EXPECTED = [
    ("1", "one", {"lang": "en"}, None, False),
    ("2", "two", None, None, True),
    ("3", None, None, None, True),
    ("4", None, None, None, False),
]


MANY: list[Item | Mapping[str, Any]] = [{"id": "2", "text": "two"}, Item("3", deleted=True)]


def enqueue_some(connection: object) -> None:
    """One item, many, and a delete."""
    assert embedq.enqueue_in(connection, "docs", id="1", text="one", metadata={"lang": "en"}) == 1
    assert embedq.enqueue_many_in(connection, "docs", MANY, lane="bulk") == 2
    assert embedq.delete_in(connection, "docs", ["4"]) == 1


async def enqueue_some_awaited(connection: psycopg.AsyncConnection | AsyncConnection | AsyncSession) -> None:
    """The same, awaited."""
    assert await embedq.enqueue_in(connection, "docs", id="1", text="one", metadata={"lang": "en"}) == 1
    assert await embedq.enqueue_many_in(connection, "docs", MANY, lane="bulk") == 2
    assert await embedq.delete_in(connection, "docs", ["4"]) == 1


def test_psycopg(owner: Connection, database_url: str) -> None:
    """Nothing is seen before the commit, nothing after a rollback, of a savepoint too."""
    with psycopg.connect(database_url) as connection:
        with pytest.raises(Rollback), connection.transaction():
            enqueue_some(connection)
            raise Rollback
        with connection.transaction():
            enqueue_some(connection)
            with connection.transaction(force_rollback=True):
                enqueue_some(connection)
            with pytest.raises(UnknownCollection), connection.transaction():
                embedq.enqueue_in(connection, "dcos", id="1", text="one")
            assert rows(owner) == []
    assert rows(owner) == EXPECTED


async def test_psycopg_awaited(owner: Connection, database_url: str) -> None:
    """Likewise by an asynchronous connection."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        with pytest.raises(Rollback):
            async with connection.transaction():
                await enqueue_some_awaited(connection)
                raise Rollback
        async with connection.transaction():
            await enqueue_some_awaited(connection)
            with pytest.raises(InvalidItem, match="takes versions from the clock"):
                async with connection.transaction():
                    await embedq.enqueue_in(connection, "docs", id="1", text="one", version=1)
            assert rows(owner) == []
    assert rows(owner) == EXPECTED


def test_sqlalchemy_connection(owner: Connection, engine: sqlalchemy.Engine) -> None:
    """With savepoints."""
    with pytest.raises(Rollback), engine.begin() as connection:
        enqueue_some(connection)
        raise Rollback
    with engine.begin() as connection:
        enqueue_some(connection)
        with pytest.raises(UnknownCollection), connection.begin_nested():
            embedq.enqueue_in(connection, "dcos", id="1", text="one")
        assert rows(owner) == []
    assert rows(owner) == EXPECTED


def test_sqlalchemy_session(owner: Connection, engine: sqlalchemy.Engine) -> None:
    """What the session holds back is written before the item: the version comes after the row's lock."""
    with Session(engine, autoflush=False) as session:
        session.add(Product(sku=1, about="one"))
        embedq.enqueue_in(session, "docs", id="1", text="one")
        session.rollback()
        session.add(Product(sku=2, about="two"))
        enqueue_some(session)
        assert not session.new
        session.commit()
    assert owner.execute("SELECT sku FROM product").fetchall() == [(2,)]
    assert rows(owner) == EXPECTED


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_sqlalchemy_awaited(owner: Connection, database_url: str, driver: str) -> None:
    """By either asynchronous driver, connection and session, with the errors of each."""
    engine = create_async_engine(engine_url(database_url, driver))
    async with engine.begin() as connection:
        await enqueue_some_awaited(connection)
        await connection.rollback()
    async with AsyncSession(engine, autoflush=False) as session:
        session.add(Product(sku=1, about="one"))
        await enqueue_some_awaited(session)
        assert not session.new
        await session.commit()
    assert rows(owner) == EXPECTED
    async with engine.connect() as connection:
        with pytest.raises(UnknownCollection) as unknown:
            await embedq.enqueue_in(connection, "dcos", id="1", text="hu" + "sh")
        await connection.rollback()
        assert unknown.value.known == ["docs", "numbered"]
        assert "hush" not in "".join(traceback.format_exception(unknown.value))
        with pytest.raises(InvalidItem, match="give one") as invalid:
            await embedq.enqueue_in(connection, "numbered", id="it's", text="one")
        assert (invalid.value.item_id, invalid.value.rule) == ("it's", "version_missing")
    await engine.dispose()


def test_django(owner: Connection, django_alias: str) -> None:
    """In atomic blocks, one within the other."""
    from django.db import connections, transaction

    connection = connections[django_alias]
    with pytest.raises(Rollback), transaction.atomic(using=django_alias):
        enqueue_some(connection)
        raise Rollback
    with transaction.atomic(using=django_alias):
        enqueue_some(connection)
        with pytest.raises(UnknownCollection) as unknown, transaction.atomic(using=django_alias):
            embedq.enqueue_in(connection, "dcos", id="1", text="one")
        assert rows(owner) == []
    assert unknown.value.known == ["docs", "numbered"]
    assert rows(owner) == EXPECTED


def test_a_producers_source_is_kept(owner: Connection) -> None:
    """By its methods, which need no Redis; module functions take it as an argument."""
    with Producer("redis://nowhere.invalid", source="shop") as producer:
        assert producer.enqueue_in(owner, "docs", id="1", text="one", lane="bulk") == 1
        assert producer.enqueue_many_in(owner, "docs", MANY) == 2
        assert producer.delete_in(owner, "numbered", ["4"], version=7) == 1
    embedq.enqueue_in(owner, "docs", id="5", text="five", source="web")
    assert [(id_, source) for id_, _, _, source, _ in rows(owner)] == [
        *((str(number), "shop") for number in range(1, 5)),
        ("5", "web"),
    ]


def test_a_producer_that_records_does_likewise(owner: Connection) -> None:
    """It takes and refuses what a database does, in the same words."""
    recording = MemoryProducer(["docs"], given=["numbered"], source="shop")
    with Producer("redis://nowhere.invalid", source="shop") as real:
        theirs = [outcome(call, real, owner) for call in CALLS]
    ours = [outcome(call, recording, None) for call in CALLS]

    assert ours == theirs
    assert rows(owner) == [
        (item.id, item.text, item.metadata, source, lane == "bulk")
        for _, lane, item, source, _ in recording.recorded
    ]


ONE: Mapping[str, Any] = {"id": "1", "text": "one"}
CALLS: list[Callable[[Producer, object], int]] = [
    lambda producer, by: producer.enqueue_in(by, "docs", **ONE, metadata={"lang": "en"}, lane="bulk"),
    lambda producer, by: producer.enqueue_in(by, "dcos", **ONE),
    lambda producer, by: producer.enqueue_in(by, "docs", **ONE, version=1),
    lambda producer, by: producer.enqueue_in(by, "numbered", **ONE),
    lambda producer, by: producer.enqueue_in(by, "numbered", **ONE, version=1),
    lambda producer, by: producer.enqueue_many_in(by, "docs", [ONE], lane="query"),
    lambda producer, by: producer.enqueue_many_in(by, "docs", [*[ONE] * 1000, {**ONE, "version": 1}]),
    lambda producer, by: producer.enqueue_many_in(by, "docs", [*[ONE] * 2, {"id": "2"}]),
    lambda producer, by: producer.delete_in(by, "docs", "42"),
    lambda producer, by: producer.delete_in(by, "docs", ["42"]),
]


def outcome(call: Callable[[Producer, object], int], producer: Producer, connection: object) -> object:
    """What a call returns, or the error that it raises."""
    try:
        return call(producer, connection)
    except embedq.EmbedqError as error:
        return type(error), str(error), getattr(error, "enqueued", None)


def test_thousands(owner: Connection, database_url: str) -> None:
    """In statements of a thousand, all in one transaction; an invalid item comes after those before it."""
    items: list[Mapping[str, Any]] = [{"id": str(number), "text": f"text {number}"} for number in range(2500)]
    with psycopg.connect(database_url) as connection:
        assert embedq.enqueue_many_in(connection, "docs", items) == 2500
        assert rows(owner) == []
        connection.commit()
        assert [row[0] for row in rows(owner)] == [item["id"] for item in items]
        with pytest.raises(InvalidItem) as invalid:
            embedq.enqueue_many_in(connection, "docs", [*items[:1001], {"id": "bad"}, *items])
        assert (invalid.value.rule, invalid.value.enqueued) == ("text_missing", 1001)
        connection.commit()
        assert len(rows(owner)) == 3501
        found: list[InvalidItem] = []
        some = [{"id": "a", "text": ""}, {"id": "b", "text": "b"}, {"id": "c", "text": "\ud800"}]
        assert embedq.enqueue_many_in(connection, "docs", some, on_invalid=found.append) == 1
        assert [error.rule for error in found] == ["text_empty", "text_not_unicode"]


def test_large_texts(owner: Connection) -> None:
    """Those that no message holds are refused at once; the others go in statements of a few MiB."""
    with pytest.raises(InvalidItem) as invalid:
        embedq.enqueue_in(owner, "docs", id="1", text="\n" * 600_000 + "a")
    assert invalid.value.rule == "item_too_large"
    large = ({"id": str(number), "text": "a" * 1_000_000} for number in range(6))
    assert embedq.enqueue_many_in(owner, "docs", large) == 6


def test_where_it_cannot(owner: Connection, postgres_url: str, database_url: str) -> None:
    """Each error says what to do; those of the caller's own transaction are left as they are."""
    one = {"id": "1", "text": "one"}
    for stranger in (object(), "postgresql://", sqlalchemy.create_engine("sqlite://")):
        with pytest.raises(ConfigurationError, match="give a connection of psycopg 3"):
            embedq.enqueue_in(stranger, "docs", id="1", text="one")
    with pytest.raises(ConfigurationError, match="cannot name a collection"):
        embedq.enqueue_in(owner, "Docs", id="1", text="one")
    with pytest.raises(ConfigurationError, match="lane is 'query'"):
        embedq.enqueue_many_in(owner, "docs", [one], lane="query")
    with pytest.raises(InvalidItem, match="several ids"):
        embedq.delete_in(owner, "docs", "42")
    with connect(postgres_url) as empty, pytest.raises(OutboxUnavailable, match="embedq migrate"):
        embedq.enqueue_in(empty, "docs", id="1", text="one")
    with role(database_url, "stranger") as url, connect(url) as connection:
        with pytest.raises(OutboxUnavailable, match="grant_producer") as refused:
            embedq.enqueue_in(connection, "docs", id="1", text="one")
        assert isinstance(refused.value.__cause__, psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(database_url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            embedq.enqueue_in(connection, "docs", id="1", text="one")


def test_errors_of_a_flush_are_the_callers(owner: Connection, engine: sqlalchemy.Engine) -> None:
    """A row that its own table refuses is no item that breaks a rule."""
    owner.execute("ALTER TABLE product ADD CONSTRAINT text_empty CHECK (about <> '')")
    with Session(engine) as session:
        session.add(Product(sku=1, about=""))
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            embedq.enqueue_in(session, "docs", id="1", text="one")
