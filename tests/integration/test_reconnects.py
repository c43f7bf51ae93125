"""A worker whose servers go away: it waits with the vectors in hand, says why, and goes on by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from embedq.testing import FakeAPI
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from tests.support.postgres import set_read_only, socket_of, through
from tests.support.proxy import Proxy
from tests.support.stack import MODEL, Stack, wait_until

BACK_WITHIN = 10.0
"""Seconds from a server's return until a worker has written again."""
LEASE = 2
ITEMS = [{"id": str(number), "text": f"text number {number}"} for number in range(600)]


def configure(stack: Stack, *, max_concurrency: int = 8, **worker: float) -> None:
    """Short leases, small requests and small messages' worth of window."""
    keys = {"lease": LEASE, "database_timeout": 1.0, **worker}
    lines = "".join(f"{name} = {value}\n" for name, value in keys.items())
    stack.configure(
        f'[worker]\n{lines}[models."{MODEL}"]\nmax_inputs = 16\nmax_concurrency = {max_concurrency}\n'
    )


def enqueue(stack: Stack, items: list[dict[str, str]] = ITEMS) -> None:
    """Messages of ten items."""
    with stack.producer() as producer:
        for start in range(0, len(items), 10):
            producer.enqueue_many("docs", items[start : start + 10])


def all_stored_and_paid_once(stack: Stack, items: list[dict[str, str]] = ITEMS) -> None:
    """Everything is in its row, and no text was billed twice."""
    stack.wait_until_done(30)
    assert stack.stored("docs") == {item["id"]: item["text"] for item in items}
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]
    stats = stack.api.stats()
    assert (stats.billed_texts, stats.billed_again) == (len(items), 0)


def strand(proxy: Proxy) -> None:
    """Like a firewall that forgot: nothing comes over the open connections any more; new ones work."""
    proxy.stall()
    proxy.stalled = False  # of those to come: without `resume` the open ones stay as they are


def count_stored(stack: Stack) -> int:
    """Rows so far."""
    return int(stack.sql("SELECT count(*) FROM docs")[0][0])


def test_postgres_stops_in_the_midst_of_writes(stack: Stack, postgres_server: Postgres) -> None:
    """Immediately, as in a crash: what was called is written afterwards, and nothing is called meanwhile."""
    configure(stack, max_concurrency=2)
    stack.create("docs")
    stack.api.configure(latency=0.2)
    with stack.worker() as worker:
        enqueue(stack)
        wait_until(lambda: count_stored(stack) > 50, 20)
        postgres_server.stop()  # SIGQUIT
        try:
            wait_until(lambda: " waits: " in worker.output, 10)
            stack.api.wait_until_idle(timeout=10)
            calls = stack.api.stats().calls
            time.sleep(0.6)  # nothing happens, of which no event tells
            assert stack.api.stats().calls == calls < len(ITEMS) // 16
        finally:
            postgres_server.start()
        all_stored_and_paid_once(stack)
        wait_until(lambda: "the database serves again" in worker.output, 10)
    assert "ERROR" not in worker.output
    assert stack.sql("SELECT sum(texts) FROM embedq.usage") == [(len(ITEMS),)]  # each was charged once


def test_postgres_falls_silent(stack: Stack) -> None:
    """Half-open connections, over which nothing comes any more: they are given up, and it goes on."""
    configure(stack)
    stack.create("docs")
    stack.api.configure(latency=0.1)
    with Proxy(socket_of(stack.database_url)) as proxy:
        stack.environment["EMBEDQ_DATABASE_URL"] = through(proxy, stack.database_url)
        with stack.worker():
            enqueue(stack)
            wait_until(lambda: count_stored(stack) > 50, 20)
            strand(proxy)
            stranded_at = monotonic()
            all_stored_and_paid_once(stack)
            assert monotonic() - stranded_at < BACK_WITHIN


def test_postgres_becomes_read_only(stack: Stack) -> None:
    """As after a failover: calls in flight end, their vectors wait, it says what to do, once."""
    configure(stack)
    stack.create("docs")
    stack.api.configure(latency=1.0)
    with stack.worker() as worker:
        enqueue(stack, ITEMS[:100])
        stack.api.wait_for(in_flight=4, timeout=10)
        set_read_only(stack.database_url, True)
        try:
            stack.api.wait_until_idle(timeout=10)
            wait_until(lambda: "the database is read-only" in worker.output, 15)
            assert count_stored(stack) == 0
        finally:
            set_read_only(stack.database_url, False)
        back_at = monotonic()
        all_stored_and_paid_once(stack, ITEMS[:100])
        assert monotonic() - back_at < BACK_WITHIN
    assert worker.output.count("the database is read-only") == 1


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, which Postgres may write to."""
    folder.mkdir()
    owner = folder.parent.stat()
    options = f"size={size},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small file system to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def tablespace(url: str, folder: Path) -> Iterator[None]:
    """The table docs, on a disk of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
        try:
            connection.execute("ALTER TABLE docs SET TABLESPACE small")
            yield
        finally:
            connection.execute("ALTER TABLE docs SET TABLESPACE pg_default")
            connection.execute("DROP TABLESPACE small")


def fill(disk: Path) -> Path:
    """A file that leaves no byte free."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def rollbacks(stack: Stack) -> int:
    """Transactions that failed so far, as far as Postgres has counted them."""
    query = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    return int(stack.sql(query)[0][0])


def test_the_disk_is_full(stack: Stack, postgres_server: Postgres) -> None:
    """Vectors are kept, nothing is called for them again, the windows bound them; then there is room."""
    configure(stack, window_items=256)
    stack.create("docs", dimensions=1024)
    with (
        small_disk(postgres_server.data.parent / "small", "16m") as disk,
        tablespace(stack.database_url, disk),
    ):
        filler = fill(disk)
        with stack.worker() as worker:
            enqueue(stack)
            wait_until(lambda: "the disk of Postgres is full; make room on it" in worker.output, 20)
            stack.api.wait_until_idle(timeout=10)
            paid = stack.api.stats().texts
            assert 0 < paid <= 256 + 20
            assert stack.broker.llen("embedq.docs") > 0
            failed = rollbacks(stack)
            wait_until(lambda: rollbacks(stack) > failed + 2, 20)
            assert stack.api.stats().texts == paid
            filler.unlink()
            back_at = monotonic()
            all_stored_and_paid_once(stack)
            assert monotonic() - back_at < BACK_WITHIN
        assert worker.output.count("the disk of Postgres is full") == 1
        assert "the database serves again" in worker.output


@pytest.fixture
def kept(database_url: str, fake_api: FakeAPI, tmp_path: Path) -> Iterator[tuple[Stack, Valkey]]:
    """A stack whose Valkey keeps its messages over a restart."""
    with Valkey(tmp_path / "valkey") as valkey:
        stack = Stack(valkey.url, database_url, fake_api, tmp_path)
        yield stack, valkey
        stack.close()


def begin(stack: Stack) -> None:
    """Short leases, and an API that takes its time."""
    configure(stack)
    stack.create("docs")
    stack.api.configure(latency=0.1)


def consumes_again(stack: Stack) -> None:
    """What is enqueued from now on is soon in its row."""
    back_at = monotonic()
    with stack.producer(check=False) as producer:
        producer.enqueue("docs", id="again", text="one more text")
    wait_until(lambda: stack.sql("SELECT FROM docs WHERE id = 'again'") != [], BACK_WITHIN)
    assert monotonic() - back_at < BACK_WITHIN


AGAIN = [*ITEMS, {"id": "again", "text": "one more text"}]


def test_redis_restarts_with_its_messages(kept: tuple[Stack, Valkey]) -> None:
    """In hand stays in hand, what is queued is fetched, limits and mailboxes work again."""
    stack, valkey = kept
    begin(stack)
    with stack.worker() as worker:
        enqueue(stack)
        wait_until(lambda: count_stored(stack) > 50, 20)
        valkey.stop()
        stack.api.wait_until_idle(timeout=10)
        wait_until(lambda: "Redis is away" in worker.output, 15)
        valkey.start()
        consumes_again(stack)
        all_stored_and_paid_once(stack, AGAIN)


def test_redis_restarts_empty(stack: Stack, valkey_server: Valkey) -> None:
    """What was in hand is finished all the same; what was queued is gone with it; new messages are taken."""
    begin(stack)
    with stack.worker() as worker:
        enqueue(stack, ITEMS[:200])
        stack.api.wait_for(in_flight=8, timeout=10)
        wait_until(lambda: stack.broker.llen("embedq.docs") == 0, 10)
        valkey_server.stop()
        wait_until(lambda: "Redis is away" in worker.output, 15)
        valkey_server.start()
        consumes_again(stack)
        all_stored_and_paid_once(stack, [*ITEMS[:200], AGAIN[-1]])


def test_redis_freezes(kept: tuple[Stack, Valkey]) -> None:
    """A server that takes bytes and does not answer is given up, and taken back when it goes on."""
    stack, valkey = kept
    begin(stack)
    with stack.worker() as worker:
        enqueue(stack)
        wait_until(lambda: count_stored(stack) > 50, 20)
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: "Redis is away" in worker.output, 15)
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        consumes_again(stack)
        all_stored_and_paid_once(stack, AGAIN)


def test_connections_to_redis_are_cut(stack: Stack) -> None:
    """Again and again, in the midst of messages too: nothing in hand is done twice."""
    begin(stack)
    with Proxy(int(stack.broker_url.rpartition(":")[2].partition("/")[0])) as proxy:
        stack.environment["EMBEDQ_BROKER_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        with stack.worker():
            enqueue(stack)
            for number in range(1, 6):
                wait_until(lambda least=number * 50: count_stored(stack) >= least, 20)  # type: ignore[misc]  # a default
                proxy.cut()
            proxy.cut_after(1000)
            consumes_again(stack)
            all_stored_and_paid_once(stack, AGAIN)


def test_connections_to_redis_fall_silent(stack: Stack) -> None:
    """Half-open: the fetch that is never answered is given up too, by itself."""
    begin(stack)
    with Proxy(int(stack.broker_url.rpartition(":")[2].partition("/")[0])) as proxy:
        stack.environment["EMBEDQ_BROKER_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        with stack.worker():
            enqueue(stack)
            wait_until(lambda: count_stored(stack) > 50, 20)
            strand(proxy)
            consumes_again(stack)
            all_stored_and_paid_once(stack, AGAIN)


def test_redis_refuses_writes_for_a_while(stack: Stack) -> None:
    """As one that became a replica, or has no disk left; the worker does not end, and complains seldom."""
    configure(stack)
    stack.create("docs")
    with stack.worker() as worker:
        stack.broker.config_set("min-replicas-to-write", 1)
        try:
            wait_until(lambda: "Redis refuses to hand out messages" in worker.output, 10)
            assert worker.is_alive
        finally:
            stack.broker.config_set("min-replicas-to-write", 0)
        enqueue(stack)
        all_stored_and_paid_once(stack)
    assert worker.output.count("Redis refuses to hand out messages") < 4
