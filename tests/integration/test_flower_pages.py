"""Flower's pages in a real browser: named rows, counts, failures, queues, workers, and never a text.

``make screenshots`` has the pictures kept in ``docs/images``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from tests.support.monitor import Browser, Monitor, browser
from tests.support.stack import Stack, wait_until

CANARY = "canary-sentence-that-no-page-may-show"
LARGEST = 150_000
"""Bytes of a picture."""
ROWS = 12
"""Messages that ``work`` has done, and the one that its client tells of."""
QUEUED = "5b1a9a5e-93b8-4b22-a1bd-6d3d3ea9a9a1"
"""No worker has it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the pictures go."""
    return Path(os.environ.get("SCREENSHOTS") or tmp_path)


@contextmanager
def seen(stack: Stack, folder: Path) -> Iterator[Browser]:
    """A browser before a Flower that has heard of a worker, which serves one of two collections."""
    stack.create("docs")
    stack.create("products")
    stack.configure("[worker]\nvector_cache_days = 1\n")
    with (
        Monitor(stack.environment) as monitor,
        stack.worker("--collections", "docs", "--events"),
        browser(monitor, folder) as opened,
    ):
        wait_until(lambda: "embedq-" in monitor.page("/workers?json=1"), 20)
        yield opened


def work(stack: Stack) -> None:
    """All that a page may show: jobs that are done, in part or wholly dead, a stranger's, and a backlog."""
    with stack.producer(source="shop") as producer:
        texts = [{"id": str(number), "text": f"{CANARY} {number % 300}"} for number in range(600)]
        producer.enqueue_many("docs", texts, lane="bulk")
        producer.enqueue_many("products", texts)
        producer.enqueue("docs", id="lone", text=CANARY)
        stack.wait_until_done_of("docs")
        producer.enqueue_many("docs", [dict(each, id=f"again {each['id']}") for each in texts])
        producer.embed_query("docs", CANARY)
        producer.delete("docs", ["lone"])
    with stack.client() as client:
        send(client, "", CANARY, f"{CANARY} too")
        send(client, "", "\0")
        client.send_task("embedq.embed", kwargs={"job": CANARY}, queue="embedq.products", task_id=QUEUED)
    stack.wait_until_done_of("docs")


def send(client: Celery, *texts: str) -> None:
    """Enqueue as a stranger, whose Celery tells monitors what it sends."""
    client.conf.task_send_sent_event = True
    job = {
        "v": 1,
        "collection": "docs",
        "items": [{"id": str(at), "text": text} for at, text in enumerate(texts)],
    }
    client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", ignore_result=True)


def test_the_pages(stack: Stack, folder: Path) -> None:
    """A person sees at one look what was done, what failed and why, what waits, and who works."""
    with seen(stack, folder) as page:
        work(stack)
        check_tasks(page)
        check_search(page)
        check_task(page)
        check_failure(page)
        check_queues(page)
        check_workers(page)
        check_pause(page, stack)


def check_tasks(page: Browser) -> None:
    """A row a job, named by its collection, with what became of it."""
    page.open("/tasks")
    rows = "#tasks-table tbody tr"
    wait_until(lambda: len(page.texts(rows)) >= ROWS, 20, lambda: "\n".join(page.texts(rows)))
    shown = page.texts(rows)
    assert len(shown) == ROWS
    names = {"embedq.embed:docs", "embedq.query:docs", "embedq.embed:products"}
    assert {each.split()[0] for each in shown} == names
    failed = "embedq.embed:docs FAILURE AllItemsDead: all 2 items are dead letters"
    assert any(each.startswith(failed) for each in shown)
    partly = "PARTLY DEAD 3 items: 1 dead (1 text/text_empty), 2 stored; 2 texts, 1 cached,"
    assert any(partly in each for each in shown)
    assert any("SUCCESS 256 items: 256 stored; 256 texts, 256 cached, 0 tokens," in each for each in shown)
    keep(page, "flower-tasks")


def check_search(page: Browser) -> None:
    """Jobs that died in part are found by their result."""
    page.driver.find_element("css selector", "input[type=search]").send_keys("result:dead")
    rows = "#tasks-table tbody tr"
    wait_until(lambda: ["PARTLY DEAD" in each for each in page.texts(rows)] == [True], 20)
    page.open("/tasks?name=embedq.embed:docs")


def check_task(page: Browser) -> None:
    """The page of one job, which the table leads to."""
    follow(page, "256 items: 256 stored; 256 texts, 0 cached")
    (shown,) = page.texts("#task-page")
    assert "{'collection': 'docs', 'lane': 'bulk', 'items': 256, 'characters': " in shown
    assert re.search(r"256 items: 256 stored; 256 texts, 0 cached, [\d,]+ tokens, [\d,]+ ms", shown)
    keep(page, "flower-task")


def check_failure(page: Browser) -> None:
    """What failed says its class, the causes with their counts, and what to do."""
    page.open("/tasks?state=FAILURE")
    follow(page, "AllItemsDead")
    (shown,) = page.texts("#task-page")
    assert (
        "AllItemsDead: all 2 items are dead letters (1 text/text_empty, 1 text/text_nul); "
        "see `embedq dead-letters list`" in shown
    )
    assert "{'collection': 'docs', 'lane': 'live', 'items': 2, 'characters': 1}" in shown
    keep(page, "flower-failure")
    page.open(f"/task/{QUEUED}")
    assert "embedq.embed:products" in page.texts("#task-page")[0]
    assert CANARY not in page.driver.page_source


def check_queues(page: Browser) -> None:
    """What waits, of collections without a worker too. Workers report what they hold every two seconds."""

    def nothing_is_in_hand() -> bool:
        page.open("/broker")
        return page.texts("#workers, #waiting, #in-hand") == ["1", "4", "0"]

    wait_until(nothing_is_in_hand, 20)
    docs, products = page.texts("#queue-table tbody tr")
    assert docs.split()[:4] == ["docs", "0", "0", "0"]
    assert products.split()[:4] == ["products", "0", "4", "0"]
    assert page.texts("#model-table tbody tr")[0].endswith("called as needed")
    keep(page, "flower-queues")


def check_workers(page: Browser) -> None:
    """Who works, and what it has done."""
    page.open("/workers")
    wait_until(lambda: page.texts("#workers-online") == ["1"], 20)
    keep(page, "flower-workers")
    assert page.click("#workers-table tbody a")
    wait_until(lambda: bool(page.texts("#workername")), 20)
    keep(page, "flower-worker")


def check_pause(page: Browser, stack: Stack) -> None:
    """Why nothing goes on, while the service refuses the key."""
    stack.api.configure(api_key="sk-right")
    with stack.producer() as producer:
        producer.enqueue_many(
            "docs", [{"id": f"late {at}", "text": f"{CANARY} late {at}"} for at in range(300)]
        )

    def model() -> str:
        page.open("/broker")
        return page.texts("#model-table tbody tr")[0]

    wait_until(lambda: "PAUSED for " in model() and page.texts("#in-hand") == ["2"], 20, model)
    assert "check EMBEDQ_API_KEY" in model()
    keep(page, "flower-paused")
    stack.api.configure(api_key=None)
    stack.wait_until_done_of("docs")


def follow(page: Browser, result: str) -> None:
    """From the table to the page of the first job with this result."""
    wait_until(lambda: page.click("#tasks-table a[href*='/task/']", result), 20)
    wait_until(lambda: bool(page.texts("#task-page")), 20)


def keep(page: Browser, name: str) -> None:
    """A picture; its page says nothing of what was embedded."""
    assert CANARY not in page.driver.page_source
    assert page.picture(name).stat().st_size < LARGEST
