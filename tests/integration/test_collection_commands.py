"""The commands of collections, from outside: create, list, drop, status, migrate."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner, Result

from embedq.cli import main
from embedq.contract import REGISTRY_KEY, queue_name
from embedq_worker.store.dead_letters.listing import list_dead_letters
from embedq_worker.store.postgres.connections import Connection


@pytest.fixture
def run(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line on these servers."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    return CliRunner()


def embedq(run: CliRunner, *arguments: str, code: int = 0, answer: str | None = None) -> Result:
    """Run a command and hold its exit code."""
    result = run.invoke(main, arguments, input=answer)
    assert result.exit_code == code, result.output
    return result


def test_commands_from_creation_to_drop(run: CliRunner, client: redis.Redis, connection: Connection) -> None:
    """Create publishes, list shows, drop refuses while anything waits and purges when told to."""
    embedq(run, "collection", "create", "docs", "--model", "text-embedding-3-small", "--dimensions", "256")
    assert client.hexists(REGISTRY_KEY, "docs")
    assert "docs  text-embedding-3-small  vector(256)" in embedq(run, "collection", "list").output
    client.lpush(queue_name("docs"), "message")
    connection.execute("SELECT embedq.enqueue('docs', '1', 'one'), embedq.enqueue_delete('docs', '2')")

    refused = embedq(run, "collection", "drop", "docs", "--yes", code=1)
    assert "1 messages in lane live, 2 items in the outbox" in refused.stderr
    assert refused.stderr.count("\n") == 1

    assert "1 message deleted" in embedq(run, "collection", "drop", "docs", "--yes", "--purge").output
    assert client.llen(queue_name("docs")) == 0
    assert not client.hexists(REGISTRY_KEY, "docs")
    assert connection.execute("SELECT count(*) FROM embedq.outbox").fetchone() == (0,)
    assert json.loads(embedq(run, "collection", "list", "--json").output) == []


def test_drop_asks_first(run: CliRunner) -> None:
    """Without --yes a person is asked, and no is no."""
    embedq(run, "collection", "create", "docs", "--model", "text-embedding-3-small")

    embedq(run, "collection", "drop", "docs", code=1, answer="n\n")

    assert "docs" in embedq(run, "collection", "list").output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("collection", "create", "docs", "--model", "text-embedding-3-smal"), 1, "text-embedding-3-small"),
        (("collection", "create", "docs"), 2, "--model"),
        (("collection", "drop", "docs", "--yes"), 1, "not registered"),
        (("index", "build", "docs"), 1, "not registered"),
        (("index", "build", "docs", "--m", "64"), 2, "--ef-construction"),
        (("search", "docs", "text"), 1, "not registered"),
    ],
)
def test_errors_say_what_to_do(run: CliRunner, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Expected errors have their exit code and no traceback."""
    assert said in embedq(run, *arguments, code=code).stderr


def test_status_and_dead_letters(run: CliRunner, connection: Connection, client: redis.Redis) -> None:
    """Status counts and reminds of the index; dead letters are listed without text."""
    embedq(run, "collection", "create", "docs", "--model", "text-embedding-3-small", "--dimensions", "2")
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " SELECT i::text, '', '[1,1]', 1 FROM generate_series(1, 10001) AS i"
    )
    connection.execute(
        "WITH died AS (INSERT INTO embedq.dead_letter (collection, item_id, class, code, attempts)"
        " VALUES ('docs', 'i1', 'text', 'too_long', 1), ('gone', NULL, 'not_a_job', 'unparsable', 0)"
        " RETURNING number)"
        " INSERT INTO embedq.dead_letter_text SELECT number, 'secret' FROM died"
    )
    client.lpush(queue_name("docs", "bulk"), "message")

    (docs,) = json.loads(embedq(run, "status", "--json").output)["collections"]
    page = embedq(run, "status").output
    letters = embedq(run, "dead-letters", "list")

    assert (docs["rows"], docs["queued"]["bulk"], docs["dead_letters"]) == (10_001, 1, 1)
    assert docs["wants_index"]
    assert [each["code"] for each in docs["index_advice"]] == ["missing"]
    assert "embedq index build docs" in page
    assert "1 dead letter of no collection" in page
    assert "item 'i1': text too_long, 1 attempt" in letters.output
    assert "secret" not in letters.output
    assert (
        json.loads(embedq(run, "dead-letters", "list", "--json", "--collection", "docs").output)["class"]
        == "text"
    )
    assert [letter.collection for letter in list_dead_letters(connection, limit=1)] == ["gone"]


def test_migrate_command_needs_no_broker(
    run: CliRunner, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrating says what it applied, and the second time that there is nothing to do."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", postgres_url)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", "redis://127.0.0.1:1/0")

    assert "applied 0001_first" in embedq(run, "migrate").output
    assert "nothing to do" in embedq(run, "migrate").output


def test_drop_is_refused_while_redis_is_away(run: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what is queued, so nothing is dropped."""
    embedq(run, "collection", "create", "docs", "--model", "text-embedding-3-small")
    monkeypatch.setenv("EMBEDQ_BROKER_URL", "redis://127.0.0.1:1/0")

    assert "Redis is away" in embedq(run, "collection", "drop", "docs", "--yes", code=1).stderr
