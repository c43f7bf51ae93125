"""Row-level security: readers see the rows of their tenant by every function, workers write those of all."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.roles import name_in, reader_role, role, worker_role
from tests.support.stack import Stack
from tests.support.workers import Worker

MODEL = Model(id="small", dimensions=3)
ROWS: LiteralString = """
    INSERT INTO docs (id, content, metadata, embedding, version) VALUES
    ('1', 'a', '{"tenant": "a"}', '[1,0,0]', 1), ('2', 'b', '{"tenant": "b"}', '[1,0,0]', 1)
"""
TENANT: LiteralString = """
    CREATE POLICY tenant ON docs FOR SELECT
    USING (metadata ->> 'tenant' = current_setting('app.tenant', true))
"""


@pytest.mark.parametrize("index", [False, True])
def test_a_reader_sees_the_rows_of_a_tenant(owner: Connection, database_url: str, index: bool) -> None:
    """By each function: a policy on the table holds for them."""
    create_collection(owner, name="docs", model=MODEL)
    owner.execute(ROWS)
    owner.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    owner.execute(TENANT)
    if index:
        owner.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")
    with reader_role(owner, database_url, "docs") as reader:
        reader.execute("SET enable_seqscan = off")
        for tenant, seen in (("a", [("1",)]), ("b", [("2",)]), ("c", [])):
            reader.execute("SELECT set_config('app.tenant', %s, false)", (tenant,))
            assert reader.execute("SELECT id FROM docs_search('[1,0,0]', 5)").fetchall() == seen
            assert reader.execute("SELECT id FROM embedq.search('docs', '[1,0,0]', 5)").fetchall() == seen
        plan = "\n".join(
            line for (line,) in reader.execute("EXPLAIN SELECT id FROM docs_search('[1,0,0]', 5)")
        )
        assert ("Index Scan using docs_embedding_idx" in plan) is index


def test_a_policy_says_whether_other_processes_may_help(owner: Connection, database_url: str) -> None:
    """A search is as parallel as what the policy calls: it comes into the plan with the function's body."""
    create_collection(owner, name="docs", model=MODEL)
    owner.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    owner.execute(
        "CREATE FUNCTION is_seen(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'"
    )
    owner.execute("CREATE POLICY seen ON docs FOR SELECT USING (is_seen(id))")
    with reader_role(owner, database_url, "docs") as reader:
        reader.execute(
            "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0"
        )
        for safety, helped in (("UNSAFE", False), ("SAFE", True)):
            owner.execute(sql.SQL("ALTER FUNCTION is_seen PARALLEL {}").format(sql.SQL(safety)))
            plan = reader.execute("EXPLAIN SELECT id FROM docs_search('[1,0,0]', 5)").fetchall()
            assert any("Workers Planned" in line for (line,) in plan) is helped


@pytest.mark.parametrize("force", ["ENABLE", "FORCE"])
def test_a_worker_writes_the_rows_of_every_tenant(
    stack: Stack, owner: Connection, force: LiteralString
) -> None:
    """Its policy comes with its rights; under FORCE, too, the worker writes and deletes what it must."""
    with worker_role(owner, stack.database_url) as url, stack.producer() as producer:
        stack.create("docs")
        owner.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        if force == "FORCE":
            owner.execute("ALTER TABLE docs FORCE ROW LEVEL SECURITY")
        owner.execute(TENANT)
        with Worker({**stack.environment, "EMBEDQ_DATABASE_URL": url}) as worker:
            for tenant in "ab":
                producer.enqueue("docs", id=tenant, text="x", metadata={"tenant": tenant})
                producer.enqueue("docs", id=f"not {tenant}", text="y", metadata={"tenant": tenant})
            stack.wait_until_done()
            producer.delete("docs", ["not a", "not b"])
            producer.enqueue("docs", id="a", text="x", metadata={"tenant": "c"})
            stack.wait_until_done()
        assert "rights are missing" not in worker.output
        rows = "SELECT id, metadata ->> 'tenant' FROM docs ORDER BY id"
        assert stack.sql(rows) == [("a", "c"), ("b", "b")]


def test_an_owner_under_force_needs_the_policy_too(postgres_url: str) -> None:
    """A worker that runs as the owner of a table whose policies hold for the owner: it is granted one."""
    with connect(postgres_url) as admin, role(postgres_url, "owner") as url:
        admin.execute("CREATE EXTENSION vector")
        admin.execute(
            sql.SQL("GRANT CREATE ON DATABASE {0} TO {1}; GRANT CREATE ON SCHEMA public TO {1}").format(
                sql.Identifier(admin.info.dbname), sql.Identifier(name_in(url))
            )
        )
        with connect(url) as connection:
            apply_migrations(connection)
            create_collection(connection, name="docs", model=MODEL)
            connection.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            insert = "INSERT INTO docs (id, content, embedding, version) VALUES ('1', '', '[1,0,0]', 1)"
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(insert)
            connection.execute("SELECT embedq.grant_worker(CURRENT_ROLE::regrole)")
            connection.execute(insert)
            assert connection.execute("SELECT id FROM docs_search('[1,0,0]')").fetchall() == [("1",)]
