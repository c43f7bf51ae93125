"""Scenario ``sql``: rows a second into the outbox, by each form of the call, and what a single one costs.

Texts of 512 characters; each form is committed, and measured a second time as under a backlog: with as many
rows of the same ids in the outbox.
"""

from __future__ import annotations

import time
from typing import Any, LiteralString

import embedq
from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.collections import create_collection
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection, connect
from tests.bench.report import Report

WANTED = 10_000
"""Rows a second."""
FORMS: dict[str, LiteralString] = {
    "SELECT embedq.enqueue(…) FROM": "SELECT count(embedq.enqueue('docs', sku::text, about)) FROM product",
    "INSERT … SELECT … RETURNING embedq.enqueue(…)": (
        "INSERT INTO copied SELECT sku, about FROM product RETURNING embedq.enqueue('docs', sku::text, about)"
    ),
    "embedq.enqueue_many by 1,000": (
        "SELECT sum(embedq.enqueue_many('docs', skus, abouts)) FROM (SELECT array_agg(sku::text),"
        " array_agg(about) FROM product GROUP BY sku / 1000) AS part (skus, abouts)"
    ),
}
PLAIN: LiteralString = "INSERT INTO copied SELECT sku, about FROM product"
LOAD: LiteralString = """
    CREATE TABLE product AS
    SELECT sku, repeat(md5(sku::text), 16) AS about FROM generate_series(1, %(rows)s) AS sku;
    CREATE TABLE copied (LIKE product);
    ANALYZE product;
"""


def run(report: Report, quick: bool) -> None:
    """Each form on an empty outbox, and on a full one."""
    rows = 5_000 if quick else 100_000
    with Postgres() as server, connect(server.create_database("bench")) as connection:
        apply_migrations(connection)
        create_collection(connection, name="docs", model=Model(id="small", dimensions=3))
        connection.execute(LOAD.replace("%(rows)s", str(rows)).encode())
        report.add("a plain INSERT … SELECT, rows/s", rows / seconds(connection, PLAIN))
        for name, form in FORMS.items():
            connection.execute("TRUNCATE embedq.outbox, copied")
            report.add(f"{name}, rows/s", rows / seconds(connection, form), at_least=WANTED)
            report.add(f"{name}, backlog, rows/s", rows / seconds(connection, form), at_least=WANTED)
        by_python(report, connection, rows)
        one_by_one(report, connection, rows // 50)


def by_python(report: Report, connection: Connection, rows: int) -> None:
    """The client's checks and its round trips included."""
    items = [{"id": str(number), "text": f"{number:032}" * 16} for number in range(rows)]
    connection.execute("TRUNCATE embedq.outbox")
    began = time.monotonic()
    with connection.transaction():
        embedq.enqueue_many_in(connection, "docs", items)
    report.add("enqueue_many_in, rows/s", rows / (time.monotonic() - began))


def one_by_one(report: Report, connection: Connection, rows: int) -> None:
    """What a transaction of one change becomes dearer by."""
    change: LiteralString = "UPDATE product SET about = about || '!' WHERE sku = %(sku)s"
    plain = each(connection, rows, change)
    enqueued = each(connection, rows, change + " RETURNING embedq.enqueue('docs', sku::text, about)")
    report.add("a transaction of one UPDATE, ms", plain, "{:.3f}")
    report.add("that enqueues, too, ms", enqueued, "{:.3f}")


def each(connection: Connection, rows: int, change: LiteralString) -> float:
    """Milliseconds of a transaction, by the median."""
    connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS product_sku_idx ON product (sku)")
    taken = sorted(seconds(connection, change, sku=sku) for sku in range(1, rows + 1))
    return 1_000 * taken[len(taken) // 2]


def seconds(connection: Connection, query: LiteralString, **values: Any) -> float:
    """How long a statement takes, with its commit."""
    began = time.monotonic()
    connection.execute(query, values)
    return time.monotonic() - began
