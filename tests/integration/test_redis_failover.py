"""Redis fails over behind one address, and nobody closes the connections to the old master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from embedq.testing import FakeAPI
from embedq_worker.embedded.process import free_port
from embedq_worker.embedded.valkey import Valkey
from tests.support.proxy import Proxy
from tests.support.stack import MODEL, Stack, wait_until

ITEMS = [{"id": str(number), "text": f"text number {number}"} for number in range(300)]


class Pair:
    """A master and its replica, and the address that follows the master."""

    def __init__(self, first: Valkey, second: Valkey, address: Proxy) -> None:
        self._first = redis.from_url(first.url)
        self._second = redis.from_url(second.url)
        self._address = address
        self._new_port = second.port
        self._second.replicaof("127.0.0.1", str(first.port))
        wait_until(lambda: self._second.info("replication")["master_link_status"] == "up", 10)

    @property
    def url(self) -> str:
        """The address, for workers and producers."""
        return f"redis://127.0.0.1:{self._address.port}/0"

    def fail_over(self) -> None:
        """Promote the replica and demote the master, as a service does that leaves connections open."""
        self._second.replicaof("NO", "ONE")
        self._address.lead_to(self._new_port)
        self._first.replicaof("127.0.0.1", str(free_port()))  # it never catches up, and stays read-only

    def close(self) -> None:
        """Close our own connections."""
        self._first.close()
        self._second.close()


@pytest.fixture
def pair(valkey_server: Valkey, broker_url: str) -> Iterator[Pair]:
    """The session's Valkey as the old master."""
    with Valkey() as second, Proxy(valkey_server.port) as address:
        pair = Pair(valkey_server, second, address)
        yield pair
        redis.from_url(broker_url).replicaof("NO", "ONE")
        pair.close()


def test_workers_and_producers_follow_the_master(
    pair: Pair, database_url: str, fake_api: FakeAPI, tmp_path: Path
) -> None:
    """Everything is stored, what is enqueued afterwards as well, and a query is answered."""
    stack = Stack(pair.url, database_url, fake_api, tmp_path)
    stack.configure(f'[worker]\nlease = 2\nwindow_items = 256\n[models."{MODEL}"]\nmax_inputs = 16\n')
    stack.create("docs")
    stack.api.configure(latency=0.05)
    with stack.worker() as worker, stack.producer() as producer:
        for start in range(0, len(ITEMS), 10):
            producer.enqueue_many("docs", ITEMS[start : start + 10])
        wait_until(lambda: stack.sql("SELECT count(*) > 50 FROM docs") == [(True,)], 20)
        pair.fail_over()
        producer.enqueue("docs", id="again", text="one more text")
        producer.embed_query("docs", "where?", timeout=20)
        wait_until(lambda: stack.pending() == 0, 20, lambda: worker.output)
        assert len(stack.stored("docs")) == len(ITEMS) + 1
    assert "ERROR" not in worker.output
    stack.close()
