"""Least rights: a worker's role does a worker's work, a reader's role searches, and neither may do more."""

from __future__ import annotations

from typing import LiteralString

import pytest
from psycopg import errors, sql

from embedq.errors import EmbedqError
from embedq.testing.faults import BadText
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.roles import name_in, reader_role, role, worker_role
from tests.support.stack import Stack, wait_until
from tests.support.workers import Worker

MODEL = Model(id="small", dimensions=3)
ENQUEUE: LiteralString = "SELECT embedq.enqueue('docs', '1', 'a')"


@pytest.fixture
def docs(owner: Connection) -> Collection:
    """A collection with two rows of two tenants, on the same spot."""
    made = create_collection(owner, name="docs", model=MODEL)
    owner.execute(
        "INSERT INTO docs (id, content, metadata, embedding, version) VALUES"
        """ ('1', 'a', '{"tenant": "a"}', '[1,0,0]', 1), ('2', 'b', '{"tenant": "b"}', '[1,0,0]', 1)"""
    )
    return made


def refused(connection: Connection, *statements: LiteralString) -> None:
    """Each is refused for want of rights."""
    for statement in statements:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)
            pytest.fail(f"may: {statement}")


def test_a_worker_needs_no_more(stack: Stack, owner: Connection) -> None:
    """It stores, touches, deletes, buries, keeps vectors and house, looks for drift, in later collections."""
    stack.configure(
        "[worker]\nvector_cache_days = 30\ndead_letter_text_days = 10\ntombstone_days = 10\n"
        "drift_hours = 0.0001\n"
    )
    owner.execute(
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks, deleted_at)"
        " VALUES (9, 'old', 1, '', 0, now() - interval '11 days')"
    )
    stack.api.inject(BadText(), marker="poison")
    with worker_role(owner, stack.database_url) as url, stack.producer() as producer:
        stack.create("docs")
        with Worker({**stack.environment, "EMBEDQ_DATABASE_URL": url}) as worker:
            producer.enqueue_many("docs", [{"id": str(n), "text": f"text {n}"} for n in range(20)])
            producer.enqueue("docs", id="bad", text="poison")
            stack.wait_until_done()
            producer.enqueue_many("docs", [{"id": str(n), "text": f"text {n}"} for n in range(10)])
            producer.enqueue("docs", id="10", text="text 11")
            producer.delete("docs", ["19"])
            stack.wait_until_done()
            wait_until(lambda: "1 ids deleted more than 10 days ago were forgotten" in worker.output, 10)
            checked = "SELECT count(*) FROM embedq.drift WHERE checked_at > first_at"
            wait_until(lambda: stack.sql(checked) == [(1,)], 10)
        assert "rights are missing" not in worker.output
    assert stack.stored("docs") == {**{str(n): f"text {n}" for n in range(19)}, "10": "text 11"}
    buried = "SELECT item_id, class FROM embedq.dead_letter JOIN embedq.dead_letter_text USING (number)"
    assert stack.sql(buried) == [("bad", "text")]
    assert stack.sql("SELECT count(*) FROM embedq.vector_cache WHERE vector IS NOT NULL") == [(20,)]


@pytest.mark.usefixtures("docs")
def test_a_worker_may_do_no_more(owner: Connection, database_url: str) -> None:
    """Nothing is dropped, changed in shape, registered, enqueued or granted, and no other table read."""
    owner.execute("CREATE TABLE salaries (id int)")
    owner.execute(ENQUEUE)
    with worker_role(owner, database_url) as url, connect(url) as worker:
        worker.execute("UPDATE embedq.broker SET epoch = epoch + 1")
        worker.execute("SELECT FROM embedq.outbox FOR UPDATE SKIP LOCKED")
        worker.execute("UPDATE embedq.outbox SET epoch = 2")
        worker.execute("DELETE FROM embedq.outbox")
        refused(
            worker,
            "DROP TABLE docs",
            "TRUNCATE docs",
            "ALTER TABLE docs ADD COLUMN more int",
            "CREATE INDEX ON docs (version)",
            "DROP FUNCTION docs_search",
            "CREATE TABLE embedq.more (id int)",
            "UPDATE embedq.collection SET table_name = 'salaries'",
            "INSERT INTO embedq.collection (name) VALUES ('more')",
            "SELECT * FROM embedq.migration",
            "INSERT INTO embedq.outbox (collection_id, id, version) VALUES (1, '1', 1)",
            "DELETE FROM embedq.broker",
            "DELETE FROM embedq.dead_letter",
            "DELETE FROM embedq.usage",
            "UPDATE embedq.budget SET dollars = 9",
            "TRUNCATE embedq.item",
            "SELECT * FROM salaries",
        )


@pytest.mark.usefixtures("docs")
def test_a_reader_searches_one_collection(owner: Connection, database_url: str) -> None:
    """By its own functions and the one that takes a name; nothing else is theirs to see or to change."""
    create_collection(owner, name="other", model=MODEL)
    with reader_role(owner, database_url, "docs") as reader:
        assert len(reader.execute("SELECT id FROM docs_search('[1,0,0]', 5, 1)").fetchall()) == 2
        assert len(reader.execute("SELECT id FROM embedq.search('docs', '[1,0,0]', 5)").fetchall()) == 2
        refused(
            reader,
            "SELECT id FROM other_search('[1,0,0]', 5)",
            "SELECT * FROM embedq.dead_letter",
            "SELECT * FROM embedq.dead_letter_text",
            "SELECT * FROM embedq.vector_cache",
            "SELECT * FROM embedq.item",
            "INSERT INTO docs (id, content, embedding, version) VALUES ('3', '', '[1,0,0]', 1)",
            "UPDATE docs SET content = ''",
            "DELETE FROM docs",
            "TRUNCATE docs",
            "DROP TABLE docs",
            "DROP FUNCTION docs_search",
            "UPDATE embedq.collection SET generation = 2",
        )


@pytest.mark.usefixtures("docs")
def test_a_producer_enqueues_and_reads_nothing(owner: Connection, database_url: str) -> None:
    """Who is granted may enqueue alone, whatever stands in the way of names; no reader may."""
    with role(database_url, "producer") as theirs, connect(theirs) as producer:
        refused(producer, ENQUEUE)
        owner.execute("SELECT embedq.grant_producer(%s::regrole)", (name_in(theirs),))
        producer.execute("CREATE TEMPORARY TABLE collection (id int, name text); SET search_path = pg_temp")
        producer.execute(ENQUEUE)
        producer.execute("SELECT embedq.enqueue_delete('docs', '1')")
        producer.execute("SELECT embedq.enqueue_many('docs', ARRAY['1'], ARRAY['a'])")
        for fault in ("SELECT embedq.enqueue('docs', '1', '')", "SELECT embedq.enqueue('nope', '1', 'a')"):
            with pytest.raises(
                (errors.CheckViolation, errors.UndefinedTable), match=r"empty|registered: docs"
            ):
                producer.execute(fault.encode())
        refused(
            producer,
            *(f"SELECT FROM embedq.{table}" for table in ("outbox", "broker", "collection", "item")),
            "SELECT FROM embedq.worker_right",
            "INSERT INTO embedq.outbox (collection_id, id, version) VALUES (1, '1', 1)",
            "SELECT embedq.append('docs', '1', 'a', NULL, NULL, false, 'live', NULL)",
            "SELECT embedq.next_version(1, '1')",
        )
    assert owner.execute("SELECT count(*) FROM embedq.outbox").fetchone() == (3,)
    with reader_role(owner, database_url, "docs") as reader:
        refused(reader, ENQUEUE)


def test_a_reader_of_no_collection_is_told(owner: Connection) -> None:
    """The message names the collection and says where the names are."""
    with pytest.raises(errors.UndefinedTable, match="no collection 'docs'") as caught:
        owner.execute("SELECT embedq.grant_reader(CURRENT_ROLE::regrole, 'docs')")
    assert "embedq.collection" in (caught.value.diag.message_hint or "")


@pytest.mark.usefixtures("docs")
def test_nobody_grants_what_is_not_theirs(owner: Connection, database_url: str) -> None:
    """Called by a reader they grant nothing; each right that is missing is named, with who may grant it."""
    with reader_role(owner, database_url, "docs") as reader, role(database_url, "friend") as friend:
        said: list[str] = []
        reader.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        reader.execute("SELECT embedq.grant_reader(%s::regrole, 'docs')", (name_in(friend),))
        assert any(f"let it run: GRANT SELECT ON public.docs TO {name_in(friend)}" in each for each in said)
        assert all("only role postgres may grant" in each for each in said)
        with connect(friend) as connection:
            refused(connection, "SELECT id FROM docs_search('[1,0,0]', 1)")


@pytest.mark.usefixtures("docs")
def test_granting_again_changes_nothing(owner: Connection, database_url: str) -> None:
    """What a role has is not granted again; who lost the ledger is no worker any more."""
    acl = (
        "SELECT relname, xmin::text FROM pg_class"
        " WHERE relnamespace IN ('embedq'::regnamespace, 'public'::regnamespace)"
    )
    with worker_role(owner, database_url) as url:
        before = owner.execute(acl).fetchall()
        owner.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(url),))
        assert owner.execute(acl).fetchall() == before
        assert owner.execute("SELECT worker::text FROM embedq.workers() AS worker").fetchall() == [
            (name_in(url),)
        ]

        owner.execute(sql.SQL("REVOKE ALL ON embedq.item, docs FROM {}").format(sql.Identifier(name_in(url))))
        apply_migrations(owner)
        create_collection(owner, name="later", model=MODEL)

        with connect(url) as worker:
            refused(worker, "SELECT FROM docs", "SELECT FROM later", "SELECT FROM embedq.item")


def test_migrate_grants_what_is_new(owner: Connection, database_url: str) -> None:
    """A table that comes with a later version is the workers' too, without anybody granting."""
    with worker_role(owner, database_url) as url:
        owner.execute(
            sql.SQL("REVOKE ALL ON embedq.vector_cache FROM {}").format(sql.Identifier(name_in(url)))
        )
        apply_migrations(owner)
        with connect(url) as worker:
            assert worker.execute("SELECT count(*) FROM embedq.vector_cache").fetchone() == (0,)


def test_who_may_only_insert_is_no_worker(owner: Connection, database_url: str) -> None:
    """Some right on the ledger makes nobody a worker: all of them, and on the texts of dead letters, do."""
    with role(database_url, "etl") as url:
        for granted in ("SELECT, INSERT, UPDATE, DELETE ON embedq.item", "INSERT ON embedq.dead_letter_text"):
            owner.execute(f"GRANT {granted} TO {name_in(url)}".encode())
        create_collection(owner, name="docs", model=MODEL)
        apply_migrations(owner)
        with connect(url) as etl:
            refused(etl, "DELETE FROM docs", "SELECT FROM embedq.dead_letter_text")


def test_functions_that_not_everybody_may_call(owner: Connection, database_url: str) -> None:
    """A reader is granted them, and those that are made anew; nobody else is."""
    owner.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    owner.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA embedq FROM PUBLIC")
    create_collection(owner, name="docs", model=MODEL)
    with reader_role(owner, database_url, "docs") as reader, role(database_url, "friend") as friend:
        owner.execute("DROP FUNCTION docs_similar")
        apply_migrations(owner)
        for query in (
            "SELECT id FROM docs_search('[1,0,0]', 5, 1)",
            "SELECT id FROM docs_similar('1')",
            "SELECT id FROM docs_hybrid('[1,0,0]', 'a')",
            "SELECT id FROM docs_diverse('[1,0,0]')",
            "SELECT id FROM embedq.search('docs', '[1,0,0]', 5)",
        ):
            assert reader.execute(query.encode()).fetchall() == []
        owner.execute(sql.SQL("GRANT SELECT ON docs TO {}").format(sql.Identifier(name_in(friend))))
        with connect(friend) as connection:
            refused(connection, "SELECT id FROM docs_search('[1,0,0]', 5)")
        refused(reader, "SELECT embedq.grant_worker(CURRENT_ROLE::regrole)")


def test_what_does_not_exist_is_named(owner: Connection) -> None:
    """A role or a collection."""
    with pytest.raises(errors.UndefinedTable, match="no collection 'nope'"):
        owner.execute("SELECT embedq.grant_writing(CURRENT_ROLE::regrole, 'nope')")
    for grant in ("SELECT embedq.grant_worker('-')", "SELECT embedq.grant_reader('-', 'docs')"):
        with pytest.raises(errors.UndefinedObject, match="there is no role -"):
            owner.execute(grant.encode())


def test_other_schemas_and_no_public_rights(owner: Connection, database_url: str) -> None:
    """Where everybody's rights were taken away, roles get the use of schemas, and of temporary tables."""
    database = sql.Identifier(owner.info.dbname)
    owner.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    owner.execute('CREATE SCHEMA "Shop Floor"')
    create_collection(owner, name="docs", model=MODEL, schema="Shop Floor")
    with worker_role(owner, database_url) as url, connect(url) as worker:
        worker.execute("CREATE TEMPORARY TABLE landed (embedding vector(3))")
        worker.execute(
            "INSERT INTO \"Shop Floor\".docs (id, content, embedding, version) VALUES ('1', '', '[1,0,0]', 1)"
        )
        refused(worker, "CREATE TABLE public.more (id int)")
    with reader_role(owner, database_url, "docs") as reader:
        assert reader.execute("SELECT id FROM embedq.search('docs', '[1,0,0]')").fetchall() == [("1",)]


def test_who_administers_is_a_member_of_the_owner(postgres_url: str) -> None:
    """A role that owns nothing by itself migrates, creates, indexes and drops as the owner's role."""
    with (
        connect(postgres_url) as admin,
        role(postgres_url, "owner") as owners,
        role(postgres_url, "alice") as alice,
    ):
        name = sql.Identifier(name_in(owners))
        admin.execute("CREATE EXTENSION vector")
        admin.execute(
            sql.SQL(
                "GRANT CREATE ON DATABASE {0} TO {1}; GRANT CREATE ON SCHEMA public TO {1}; GRANT {1} TO {2}"
            ).format(sql.Identifier(admin.info.dbname), name, sql.Identifier(name_in(alice)))
        )
        admin.execute(sql.SQL("ALTER ROLE {} SET role TO {}").format(sql.Identifier(name_in(alice)), name))
        with connect(alice) as connection:
            assert apply_migrations(connection)
            made = create_collection(connection, name="docs", model=MODEL)
            assert build_index(connection, made)
            assert admin.execute(
                "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'docs'"
            ).fetchone() == (name_in(owners),)
            drop_collection(connection, "docs")


def test_a_stranger_creates_nothing(owner: Connection, database_url: str) -> None:
    """A worker's role may not create collections, and is told so in a line."""
    with worker_role(owner, database_url) as url, connect(url) as worker:
        with pytest.raises(EmbedqError, match="permission denied") as caught:
            create_collection(worker, name="docs", model=MODEL)
        assert not isinstance(caught.value, CollectionConflict)
