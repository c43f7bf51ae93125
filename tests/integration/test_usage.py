"""What calls cost, in Postgres: each report is counted once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import psycopg
import pytest

from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.usage import (
    Account,
    Charge,
    UsageReport,
    UsageSum,
    UsageToday,
    settle,
    usage_by,
    usage_today,
)

DOCS = Account("small", "docs", "shop", "documents")
FOUND = Account("small", "docs", "", "queries")
OTHER = Account("large", "other", "shop", "fill")
CHARGES = [
    Charge(DOCS, 1, 10, 100, 0, 0, Decimal("0.0000021")),
    Charge(FOUND, 1, 1, 7, 7, 0, Decimal("0.0000007")),
    Charge(OTHER, 2, 3, 50, 0, 50, Decimal(0)),
]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An engine's connections."""
    opened = Database(database_url, connections=4)
    await opened.open()
    yield opened
    await opened.close()


def of_today(scope: str, name: str, tokens: int, cost: str, unpriced: int = 0) -> UsageToday:
    """Without a budget."""
    assert scope in ("model", "collection")
    return UsageToday(
        scope="model" if scope == "model" else "collection",
        name=name,
        tokens=tokens,
        unpriced_tokens=unpriced,
        cost=Decimal(cost),
        budget_dollars=None,
        budget_tokens=None,
        is_spent=False,
    )


async def test_a_report_is_counted_once(database: Database) -> None:
    """Sent again after a commit that was not heard of it changes nothing; the next one adds."""
    once = await settle(database, UsageReport("p-1", 1, CHARGES))
    again = await settle(database, UsageReport("p-1", 1, CHARGES))
    more = await settle(database, UsageReport("p-1", 2, CHARGES[:1]))

    assert once == again
    assert once == [
        of_today("collection", "docs", 107, "0.0000028"),
        of_today("collection", "other", 50, "0", 50),
        of_today("model", "large", 50, "0", 50),
        of_today("model", "small", 107, "0.0000028"),
    ]
    assert [(each.tokens, each.cost) for each in more if each.name == "docs"] == [(207, Decimal("0.0000049"))]
    assert await settle(database, None) == more


async def test_a_report_under_way_is_counted_once(database: Database, database_url: str) -> None:
    """The connection was given up while Postgres worked: the second attempt waits for what becomes of it."""
    await settle(database, UsageReport("p-1", 1, CHARGES))
    with psycopg.connect(database_url) as holding:
        holding.execute("SELECT FROM embedq.usage FOR UPDATE")
        first = asyncio.create_task(settle(database, UsageReport("p-1", 2, CHARGES)))
        second = asyncio.create_task(settle(database, UsageReport("p-1", 2, CHARGES)))
        await asyncio.sleep(0.1)  # they wait for the lock, which nothing tells of
    for total in await asyncio.gather(first, second):
        assert {each.name: each.tokens for each in total}["docs"] == 2 * 107


async def test_many_processes_add_up(database: Database) -> None:
    """At the same time, whatever order their accounts come in: no two wait for each other in a circle."""

    accounts = [Account("small", "docs", f"source {number}", "documents") for number in range(300)]
    charges = [Charge(account, 1, 1, 10, 0, 0, Decimal(1)) for account in accounts]

    async def report(process: int) -> None:
        for number in range(1, 6):
            await settle(database, UsageReport(f"p-{process}", number, charges[:: 1 if process % 2 else -1]))

    await asyncio.gather(*(report(process) for process in range(8)))
    assert {each.name: each.tokens for each in await settle(database, None)}["docs"] == 8 * 5 * 300 * 10


async def test_usage_is_added_up_for_people(database: Database, database_url: str) -> None:
    """By day, model, collection and source, for some days; without a known price the cost is unknown."""
    await settle(database, UsageReport("p-1", 1, CHARGES))
    with connect(database_url) as connection:
        connection.execute("UPDATE embedq.usage SET day = day - 3 WHERE model = 'large'")
        assert [each.key for each in usage_by(connection, "model", 4)] == ["large", "small"]
        assert [each.key for each in usage_by(connection, "model", 3)] == ["small"]
        assert usage_by(connection, "source", 7) == [
            UsageSum(
                key="shop",
                calls=3,
                texts=13,
                tokens=150,
                estimated_tokens=0,
                unpriced_tokens=50,
                cost=Decimal("0.0000021"),
            ),
            UsageSum(
                key=None,
                calls=1,
                texts=1,
                tokens=7,
                estimated_tokens=7,
                unpriced_tokens=0,
                cost=Decimal("0.0000007"),
            ),
        ]
        assert [each.cost for each in usage_by(connection, "collection", 7)] == [Decimal("0.0000028"), None]
        assert [each.name for each in usage_today(connection)] == ["docs", "small"]
        months = "SELECT month, sum(tokens) FROM embedq.monthly_usage GROUP BY 1 ORDER BY 1"
        assert sum(tokens for _, tokens in connection.execute(months)) == 157
