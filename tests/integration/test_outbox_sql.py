"""The outbox in SQL: what `embedq.enqueue` and its kin write, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from embedq.contract import MAX_METADATA_DEPTH, Item, check_item
from embedq.errors import InvalidItem
from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection, connect

MODEL = Model(id="small", dimensions=3)
ROWS = "SELECT id, text, metadata, source, is_bulk, epoch FROM embedq.outbox ORDER BY number"
VERSIONS = "SELECT version FROM embedq.outbox ORDER BY number"


@pytest.fixture
def owner(database_url: str) -> Iterator[Connection]:
    """A connection to a database with a collection of either kind of versions."""
    with connect(database_url) as opened:
        create_collection(opened, name="docs", model=MODEL)
        create_collection(opened, name="numbered", model=MODEL, versions="given")
        yield opened


def call(connection: Connection, function: str, *values: object, **named: object) -> Any:
    """What a function of the schema returns."""
    given = ["%s"] * len(values) + [f"{name} => %({name})s" for name in named]
    bound = {f"v{place}": value for place, value in enumerate(values)}
    given[: len(values)] = [f"%({name})s" for name in bound]
    row = connection.execute(
        f"SELECT embedq.{function}({', '.join(given)})".encode(), {**bound, **named}
    ).fetchone()
    assert row is not None
    return row[0]


def rule_of(connection: Connection, function: str, *values: object, **named: object) -> str:
    """The rule that a refused call breaks; its name stands in the message, too."""
    with pytest.raises(errors.CheckViolation) as caught:
        call(connection, function, *values, **named)
    rule = caught.value.diag.constraint_name or ""
    assert f"({rule})" in str(caught.value)
    return rule


def test_the_job_exists_if_the_transaction_commits(owner: Connection) -> None:
    """Committed: a row, unsent. Rolled back, to a savepoint too: none."""
    with owner.transaction():
        call(owner, "enqueue", "docs", "1", "one", Jsonb({"lang": "en"}), source="shop", lane="bulk")
        with owner.transaction(force_rollback=True):
            call(owner, "enqueue", "docs", "2", "two")
    with owner.transaction(force_rollback=True):
        call(owner, "enqueue", "docs", "3", "three")
        call(owner, "enqueue_delete", "docs", "1")
    call(owner, "enqueue_delete", "docs", "4")

    assert owner.execute(ROWS).fetchall() == [
        ("1", "one", {"lang": "en"}, "shop", True, 0),
        ("4", None, None, None, False, 0),
    ]


def test_versions_of_the_clock_increase(owner: Connection) -> None:
    """Microseconds of the moment of the call, not of the transaction's start; of one id ever higher."""
    with owner.transaction():
        first = call(owner, "enqueue", "docs", "1", "a")
        second = call(owner, "enqueue", "docs", "1", "a")
        row = owner.execute("SELECT (extract(epoch FROM now()) * 1000000)::bigint").fetchone()
    assert row is not None
    assert row[0] < first < second < row[0] + 10_000_000


def test_a_version_is_above_what_is_known(owner: Connection) -> None:
    """Of the outbox and of the ledger, though a clock was wrong by years."""
    far = 9 * 10**15
    owner.execute("INSERT INTO embedq.outbox (collection_id, id, version) VALUES (1, 'sent', %s)", (far,))
    owner.execute(
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks)"
        " VALUES (1, 'stored', %s, '', 1)",
        (far + 5,),
    )
    assert call(owner, "enqueue", "docs", "sent", "a") == far + 1
    assert call(owner, "enqueue", "docs", "stored", "a") == far + 6
    assert call(owner, "enqueue_delete", "docs", "stored") == far + 7
    assert call(owner, "enqueue", "docs", "other", "a") < far
    call(owner, "enqueue_many", "docs", ["sent", "other", "sent"], ["a", "b", "c"])
    rows = owner.execute("SELECT version FROM embedq.outbox WHERE id = 'sent' ORDER BY number").fetchall()
    assert [version for (version,) in rows] == [far, far + 1, far + 2, far + 3]


def test_versions_that_are_given(owner: Connection) -> None:
    """They are kept as they are, required where they must be and refused where the clock gives them."""
    assert call(owner, "enqueue", "numbered", "1", "a", version=7) == 7
    assert call(owner, "enqueue_delete", "numbered", "1", version=3) == 3
    assert rule_of(owner, "enqueue", "numbered", "1", "a") == "version_missing"
    assert rule_of(owner, "enqueue_delete", "numbered", "1") == "version_missing"
    assert rule_of(owner, "enqueue", "numbered", "1", "a", version=-1) == "version_range"
    assert rule_of(owner, "enqueue", "docs", "1", "a", version=7) == "version_given"


def nested(levels: int) -> dict[str, Any]:
    """Metadata of so many objects and lists inside each other."""
    inner: Any = 1
    for level in range(levels - 1):
        inner = [inner] if level % 2 else {"a": inner}
    return {"a": inner}


SPACES = "".join(chr(code) for code in range(1, 0x10000) if chr(code).isspace())
ITEMS = [
    Item("", "a"),
    Item("x" * 513, "a"),
    Item("x" * 512, "a"),
    Item("1", ""),
    Item("1", SPACES),
    Item("1", SPACES + "a"),
    Item("1", "\u200b"),
    Item("1", "a", metadata=nested(MAX_METADATA_DEPTH + 1)),
    Item("1", "a", metadata=nested(MAX_METADATA_DEPTH + 2)),
    Item("1", "a", metadata={"a": [nested(MAX_METADATA_DEPTH)]}),
]


def broken_rule(item: Item) -> str | None:
    """The rule that the contract's own check finds broken."""
    if not 0 < len(item.id) <= 512:
        return "id_too_long" if item.id else "id_empty"
    try:
        check_item(item)
    except InvalidItem as error:
        return error.rule
    return None


def test_the_rules_are_the_contracts(owner: Connection) -> None:
    """What the contract's own check refuses is refused here by the same name, and nothing else is."""
    assert len({broken_rule(item) for item in ITEMS}) == 5
    for item in ITEMS:
        values = ("docs", item.id, item.text, item.metadata and Jsonb(item.metadata))
        if (expected := broken_rule(item)) is None:
            call(owner, "enqueue", *values)
        else:
            assert rule_of(owner, "enqueue", *values) == expected


def test_what_else_is_refused(owner: Connection) -> None:
    """Missing values, metadata that is no object, too much of anything; no message quotes the text."""
    assert rule_of(owner, "enqueue", "docs", None, "a") == "id_missing"
    assert rule_of(owner, "enqueue", "docs", "1", None) == "text_missing"
    assert rule_of(owner, "enqueue", "docs", "1", "a", Jsonb([1])) == "metadata_type"
    assert rule_of(owner, "enqueue", "docs", "1", "a" * 1_048_577) == "item_too_large"
    assert rule_of(owner, "enqueue", "docs", "1", "a", Jsonb({"a": "b" * 1_100_000})) == "item_too_large"
    assert rule_of(owner, "enqueue_many", "docs", ["1"], ["hush"], deleted=[True]) == "deleted_with_text"
    with pytest.raises(errors.InvalidParameterValue, match="lane is 'query'"):
        call(owner, "enqueue", "docs", "1", "a", lane="query")
    with pytest.raises(errors.InvalidParameterValue, match="source has 201 characters"):
        call(owner, "enqueue", "docs", "1", "a", source="s" * 201)
    assert owner.execute(ROWS).fetchall() == []


def test_an_unknown_collection_is_told_the_names(owner: Connection) -> None:
    """Callers may not read the registry."""
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("enqueue", ("dcos", "1", "a")),
        ("enqueue", (None, "1", "a")),
        ("enqueue_delete", ("dcos", "1")),
        ("enqueue_many", ("dcos", [], [])),
    ]
    for function, values in calls:
        with pytest.raises(errors.UndefinedTable, match="registered: docs, numbered") as caught:
            call(owner, function, *values)
        assert caught.value.diag.constraint_name == "unknown_collection"


def test_many_at_once(owner: Connection) -> None:
    """In their order, deletes among them; of one id's items the later has the higher version."""
    count = call(
        owner,
        "enqueue_many",
        "docs",
        ["1", "2", "1", "1"],
        ["a", "b", "c", None],
        ["{}", None, '{"n": 1}', None],
        deleted=[False, False, False, True],
        source="shop",
    )
    assert count == 4
    assert owner.execute(ROWS).fetchall() == [
        ("1", "a", {}, "shop", False, 0),
        ("2", "b", None, "shop", False, 0),
        ("1", "c", {"n": 1}, "shop", False, 0),
        ("1", None, None, "shop", False, 0),
    ]
    first, _, third, fourth = (version for (version,) in owner.execute(VERSIONS))
    assert first < third < fourth
    assert call(owner, "enqueue", "docs", "1", "d") > fourth


def test_many_with_their_versions(owner: Connection) -> None:
    """Given versions are kept."""
    assert call(owner, "enqueue_many", "numbered", ["1", "1"], ["a", "b"], versions=[9, 3]) == 2
    assert owner.execute(VERSIONS).fetchall() == [(9,), (3,)]
    assert call(owner, "enqueue_many", "docs", [], []) == 0


def test_of_many_all_or_none(owner: Connection) -> None:
    """The first that breaks a rule is named, and arrays of different lengths are noticed."""
    with pytest.raises(errors.CheckViolation, match=r"item '2': .* \(text_missing\)"):
        call(owner, "enqueue_many", "docs", ["1", "2", "3"], ["a", None, ""])
    with pytest.raises(errors.InvalidParameterValue, match="different lengths"):
        call(owner, "enqueue_many", "docs", ["1", "2"], ["a"])
    assert owner.execute(ROWS).fetchall() == []


def test_a_statement_enqueues_what_it_writes(owner: Connection) -> None:
    """INSERT … RETURNING, and SELECT over a table."""
    owner.execute("CREATE TABLE product (sku int PRIMARY KEY, about text)")
    owner.execute(
        "INSERT INTO product VALUES (1, 'one'), (2, 'two') RETURNING embedq.enqueue('docs', sku::text, about)"
    )
    owner.execute("SELECT embedq.enqueue('docs', sku::text, about || '!') FROM product ORDER BY sku")
    rows = [(id_, text) for id_, text, *_ in owner.execute(ROWS)]
    assert rows == [("1", "one"), ("2", "two"), ("1", "one!"), ("2", "two!")]


def test_writers_of_one_row_are_ordered_as_they_committed(owner: Connection, database_url: str) -> None:
    """Who began first but wrote last, after waiting for the row's lock, has the higher version."""
    owner.execute("CREATE TABLE product (sku int PRIMARY KEY, about text)")
    owner.execute("INSERT INTO product VALUES (1, 'one')")
    change = "UPDATE product SET about = %s WHERE sku = 1 RETURNING embedq.enqueue('docs', '1', about)"
    with connect(database_url) as early, early.transaction():
        early.execute("SELECT now()")
        with owner.transaction():
            owner.execute(change, ("of the later transaction",))
        early.execute(change, ("of the earlier transaction",))
    latest = owner.execute("SELECT text FROM embedq.outbox ORDER BY version DESC LIMIT 1").fetchone()
    assert latest == ("of the earlier transaction",)
    assert owner.execute("SELECT about FROM product").fetchone() == latest


def test_a_statement_does_not_read_what_it_has_written(owner: Connection) -> None:
    """Its plan is from when the outbox was empty: as it nearly always is."""
    owner.execute("VACUUM ANALYZE embedq.outbox, embedq.item")
    sequential = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname IN ('outbox', 'item')"
    with owner.transaction():
        owner.execute("SELECT embedq.enqueue('docs', n::text, 'a') FROM generate_series(1, 20) AS n")
        call(owner, "enqueue_many", "docs", [str(n) for n in range(20)], ["a"] * 20)
        assert owner.execute(sequential).fetchone() == (0,)


def test_serializable_transactions_do_not_refuse_each_other(owner: Connection, database_url: str) -> None:
    """Enqueueing alone makes no two of them depend on each other; an id's versions rise all the same."""
    begin = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    with connect(database_url) as other, owner.transaction():
        owner.execute(begin)
        call(owner, "enqueue", "docs", "1", "one")
        with other.transaction():
            other.execute(begin)
            call(other, "enqueue_many", "docs", ["2", "2"], ["two", "three"])
        call(owner, "enqueue", "docs", "1", "four")
    versions = [version for (version,) in owner.execute(VERSIONS)]
    assert sorted(set(versions[:1] + versions[3:])) == versions[:1] + versions[3:]
    assert versions[1] < versions[2]
