"""Loads from files, directories and queries by the command, interrupted and resumed."""

from __future__ import annotations

import gzip
import os
import signal
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result

from embedq.cli import loading, main
from tests.support.loading import enqueued_ids, run
from tests.support.queued import items
from tests.support.stretches import ITEMS

ROWS = 2_100
STRETCHES = "tests.support.stretches"
SECRET = "what the customer wrote"


def invoke(environment: dict[str, str], *arguments: str) -> Result:
    """``embedq enqueue docs`` in this process."""
    return CliRunner().invoke(main, ["enqueue", "docs", *arguments], env=environment)


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A CSV file of so many rows that a load of it takes five short stretches."""
    file = tmp_path / "products.csv"
    rows = "".join(f'{number},name {number},"a, b"\n' for number in range(ROWS))
    file.write_text("sku,name,description\n" + rows)
    return file


CSV = ("--id", "sku", "--text", "name", "--text", "description")


def test_a_killed_load_goes_on(
    environment: dict[str, str], redis_of_docs: redis.Redis, products: Path
) -> None:
    """After SIGKILL at the worst moment ``--resume`` enqueues the rest, and one stretch again."""
    killed = run(environment, "enqueue", "docs", str(products), *CSV, change=f"{STRETCHES}:killed")
    first = enqueued_ids(redis_of_docs, "embedq.docs")
    ended = run(environment, "enqueue", "docs", str(products), *CSV, "--resume")
    all_ids = [str(number) for number in range(ROWS)]

    assert killed.returncode == -signal.SIGKILL
    assert first == all_ids[: 3 * ITEMS]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"; {ROWS:,} with those of before" in ended.stdout
    assert enqueued_ids(redis_of_docs, "embedq.docs") == first + all_ids[2 * ITEMS :]
    assert "nothing to resume" in invoke(environment, str(products), *CSV, "--resume").stderr


def test_an_interrupted_load_says_how_to_go_on(
    environment: dict[str, str], redis_of_docs: redis.Redis, products: Path
) -> None:
    """Ctrl-C ends it with a sentence; it is not resumed once the file, or what is made of it, changed."""
    ended = run(environment, "enqueue", "docs", str(products), *CSV, change=f"{STRETCHES}:interrupted")
    assert ended.returncode == 1
    assert ended.stderr == (
        "embedq: interrupted; 1,500 items enqueued when line 1501 had been read; --resume goes on with it\n"
    )
    queued = redis_of_docs.llen("embedq.docs")

    other = invoke(environment, str(products), *CSV, "--metadata", "name", "--resume")
    assert (other.exit_code, "since it began its metadata changed" in other.stderr) == (1, True)
    elsewhere = invoke({**environment, "EMBEDQ_KEY_PREFIX": "test:"}, str(products), *CSV, "--resume")
    assert (elsewhere.exit_code, "since it began its broker changed" in elsewhere.stderr) == (1, True)
    products.write_text("sku,name,description\n1,a,b\n")
    changed = invoke(environment, str(products), *CSV, "--resume")
    assert (changed.exit_code, "its modified, size changed" in changed.stderr) == (1, True)
    assert redis_of_docs.llen("embedq.docs") == queued
    anew = invoke(environment, str(products), *CSV)
    assert (anew.exit_code, "this one begins anew" in anew.stderr) == (0, True)


def test_a_source_that_breaks_off_says_how_far_it_was(
    environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had yielded is enqueued, and counted to the last item."""
    monkeypatch.setattr(loading, "STRETCH_ITEMS", 400)
    file = tmp_path / "rows.jsonl.gz"
    rows = [f'{{"id": "{number}", "text": "{os.urandom(20).hex()}"}}\n' for number in range(1_000)]
    file.write_bytes(gzip.compress("".join(rows).encode())[:-8_000])
    ended = invoke(environment, str(file))
    enqueued = len(enqueued_ids(redis_of_docs, "embedq.docs"))

    assert (ended.exit_code, f"it is cut or damaged; {enqueued} items enqueued" in ended.stderr) == (1, True)
    assert "--resume goes on with it" in ended.stderr
    assert 400 < enqueued < 1_000


def test_a_query_is_read_by_ids_and_resumed(
    environment: dict[str, str], redis_of_docs: redis.Redis, postgres_url: str, tmp_path: Path
) -> None:
    """Rows in the order of their ids, with their types; a load that goes on reads the ids behind its last."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE post AS SELECT number AS id, 'body 100%' AS text, now() AS at, "
            "'{a}'::text[] AS tags, '{\"k\": 1}'::jsonb AS metadata "
            "FROM generate_series(1, 2100) AS number ORDER BY random()"
        )
    query = "SELECT * FROM post WHERE text LIKE '%100%'; -- all"
    sql = ("docs", "--sql", query.replace("; -- all", " -- all"), "--database", postgres_url)
    run(environment, "enqueue", *sql, change=f"{STRETCHES}:killed")
    ended = run(environment, "enqueue", *sql, "--resume")
    found = items(redis_of_docs, "embedq.docs")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [*dict.fromkeys(item.id for item in found)] == [str(number) for number in range(1, ROWS + 1)]
    assert len(found) == ROWS + ITEMS
    assert found[0].metadata == {"k": 1}

    given = (
        "rows",
        *sql[1:],
        "--version",
        "at",
        "--metadata",
        "tags",
        "--checkpoint",
        str(tmp_path / "file"),
    )
    assert run(environment, "enqueue", *given).returncode == 0
    (item, *_) = items(redis_of_docs, "embedq.rows")
    assert item.metadata == {"tags": ["a"]}
    assert item.version is not None
    assert item.version > 1_700_000_000_000_000
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("SELECT 1 AS id, 'a' AS body", 2, "the query has no column 'text'; its columns: id, body"),
        ("SELECT nothing FROM nowhere", 2, 'relation "nowhere" does not exist'),
        ("SELECT 1 AS id, 'a' AS text UNION ALL SELECT 1, 'b'", 1, "query:2: the query has this id twice"),
        (f"SELECT 1 AS id, '{SECRET}'::int::text AS text", 1, "(SQLSTATE 22P02)"),
        ("SELECT 1 AS id, set_config('x.y', 'a', false) AS text; DROP TABLE x", 2, "syntax error"),
    ],
    ids=["column", "table", "twice", "value", "two"],
)
@pytest.mark.usefixtures("redis_of_docs")
def test_what_is_wrong_with_a_query_is_said(
    environment: dict[str, str], postgres_url: str, query: str, code: int, said: str
) -> None:
    """By the server's words where they are of the query, and without them where they may hold values."""
    ended = invoke(environment, "--sql", query, "--database", postgres_url)

    assert (ended.exit_code, said in ended.stderr) == (code, True)
    assert SECRET not in ended.stderr


@pytest.mark.parametrize(
    "database",
    [
        "postgres:hunter2@host/app",
        "host=localhost password='hunter2",
        "postgresql://shop:hunter2%zz@localhost/app",
        "postgresql://shop:hunter 2@localhost/app",
        "postgresql://shop:hunter2/b@localhost/app",
        "postgresql://localhost/shop:hunter2@app",
    ],
    ids=["scheme", "quote", "percent", "space", "slash", "name"],
)
def test_no_part_of_a_database_that_cannot_be_read_is_said(
    environment: dict[str, str], database: str
) -> None:
    """Nor where a sign of the password makes another part of it."""
    ended = invoke(environment, "--sql", "SELECT 1", "--database", database)

    assert (ended.exit_code, "--database cannot be read" in ended.stderr) == (2, True)
    assert "hunter" not in ended.stderr


def test_a_directory_is_enqueued(
    environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path
) -> None:
    """A file an item; what is no text is named by its path, and costs no other."""
    for name, content in {
        "a.md": b"# A",
        "b/c.txt": b"c",
        "bad.txt": b"\xff" + SECRET.encode(),
        "empty.md": b"",
    }.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_bytes(content)
    (tmp_path / "texts" / "huge.txt").write_bytes(b"x" * 2_000_000)
    ended = invoke(environment, str(tmp_path / "texts"), "--lane", "bulk")

    assert enqueued_ids(redis_of_docs, "embedq.docs.bulk") == ["a.md", "b/c.txt"]
    assert ended.exit_code == 1
    assert [line.split(":")[1] for line in ended.stderr.splitlines()] == ["bad.txt", "empty.md", "huge.txt"]
    assert "3 bad files left out" in ended.stdout
    assert SECRET not in ended.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold names in UTF-8 alone")
def test_names_that_are_no_utf8(
    environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path
) -> None:
    """A file of such a name is a bad row; a source in such a folder is read as any other."""
    folder = tmp_path / os.fsdecode(b"old \xff")
    folder.mkdir()
    for name in (b"a.txt", b"\xff.txt", b"rows.csv"):
        (folder / os.fsdecode(name)).write_text("id,text\n1,one\n")

    read = invoke(environment, str(folder))
    assert (read.exit_code, "(id_not_unicode)" in read.stderr) == (1, True)
    assert invoke(environment, str(folder / "rows.csv")).exit_code == 0
    assert enqueued_ids(redis_of_docs, "embedq.docs") == ["a.txt", "1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a file, a directory"),
        (("-", "--sql", "SELECT 1"), "give a file, a directory"),
        (("-", "--resume"), "cannot be read from the middle"),
        (("-", "--format", "csv", "--delimiter", "||"), "--delimiter is one character"),
        (("-", "--format", "csv", "--delimiter", '"'), "neither a quote"),
        (("/dev/null", "--format", "parquet"), "give a file, not a pipe"),
        (("--sql", "SELECT 1", "--database", ""), "--sql needs --database"),
    ],
)
@pytest.mark.usefixtures("redis_of_docs")
def test_wrong_usage_is_explained(environment: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    """With exit code 2."""
    ended = invoke(environment, *arguments)

    assert (ended.exit_code, said in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "reader", "package", "extra"),
    [
        (("/dev/null", "--format", "parquet"), "parquet", "pyarrow", "parquet"),
        (("--sql", "SELECT 1", "--database", "x"), "sql_query", "psycopg", "postgres"),
    ],
    ids=["parquet", "query"],
)
@pytest.mark.usefixtures("redis_of_docs")
def test_a_missing_extra_is_named(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    reader: str,
    package: str,
    extra: str,
) -> None:
    """A reader whose package is not installed says what to install."""
    monkeypatch.delitem(sys.modules, f"embedq.cli.sources.{reader}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    ended = invoke(environment, *arguments)

    assert ended.exit_code == 2
    assert f"pip install 'embedq[{extra}]'" in ended.stderr


def test_without_a_place_for_checkpoints_a_load_goes_through(
    environment: dict[str, str], redis_of_docs: redis.Redis, tmp_path: Path
) -> None:
    """It says that it cannot be resumed; a file that was chosen for it must be writable."""
    (tmp_path / "rows.csv").write_text("id,text\n1,a\n")
    (tmp_path / "state").write_text("in the way")
    places = [str(tmp_path / "state"), "/" + "x" * 300]  # what may not be entered answers like the second
    for place in places:
        ended = invoke({**environment, "XDG_STATE_HOME": place}, str(tmp_path / "rows.csv"))
        assert (ended.exit_code, "this load cannot be resumed" in ended.stderr) == (0, True)
    chosen = str(tmp_path / "state" / "file")
    refused = invoke(environment, str(tmp_path / "rows.csv"), "--checkpoint", chosen)

    assert (refused.exit_code, "give another file with --checkpoint" in refused.stderr) == (1, True)
    assert enqueued_ids(redis_of_docs, "embedq.docs")[0] == "1"
