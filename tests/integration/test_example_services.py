"""The services of docs/examples: real servers, a real worker, and what becomes of their transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import psycopg
import pytest

from tests.support.pages import ROOT
from tests.support.serving import served
from tests.support.stack import Stack, wait_until

EXAMPLES = ROOT / "docs/examples"
TABLE = "CREATE TABLE product (sku text PRIMARY KEY, name text UNIQUE NOT NULL, about text NOT NULL)"
LAMP, MUG = {"name": "Lamp", "about": "gives light"}, {"name": "Mug", "about": "holds tea"}


@pytest.fixture
def services(stack: Stack) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of the services with FastAPI and with Django, which share a table and a worker."""
    stack.create("products")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(TABLE)
    environment = {**stack.environment, "DATABASE_URL": stack.database_url}
    with ExitStack() as running:
        running.enter_context(stack.worker())
        names = ("fastapi_app:app", "django_app:application")
        fastapi, django = (running.enter_context(served(name, EXAMPLES, environment)) for name in names)
        yield fastapi, django


def test_a_job_exists_if_its_transaction_commits(
    stack: Stack, services: tuple[httpx.Client, httpx.Client]
) -> None:
    """And a search answers within its deadline; both services, with one worker."""
    fastapi, django = services
    # A row that is refused takes its neighbours' jobs along, a job that is refused its row.
    refused = [{"sku": "gone", "name": "Rug", "about": "lies there"}, {"sku": "twin", **MUG}]
    assert fastapi.put("/products/mug", json=MUG).status_code == 200
    assert django.post("/products", json=[{"sku": "lamp", **LAMP}]).status_code == 200
    assert django.post("/products", json=refused).status_code == 409
    for answer in (
        fastapi.put("/products/nul", json={"name": "", "about": " "}),
        django.post("/products", json=[{"sku": "nul", "name": "", "about": " "}]),
    ):
        assert (answer.status_code, "text_empty" in answer.json()["detail"]) == (422, True)
    wait_until(lambda: stack.stored("products").keys() == {"mug", "lamp"}, 20)
    assert stack.sql("SELECT sku FROM product ORDER BY sku") == [("lamp",), ("mug",)]
    search_both(fastapi, django)
    assert fastapi.delete("/products/mug").status_code == 200
    wait_until(lambda: stack.stored("products").keys() == {"lamp"}, 20)
    assert stack.sql("SELECT count(*) FROM embedq.outbox") == [(0,)]
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(0,)]


def search_both(fastapi: httpx.Client, django: httpx.Client) -> None:
    """A text finds itself first; a blank question is the caller's mistake."""
    found = fastapi.get("/search", params={"question": "Lamp\ngives light"})
    assert [row["sku"] for row in found.json()] == ["lamp", "mug"]
    found = django.get("/search", params={"question": "Mug\nholds tea"})
    assert [row["sku"] for row in found.json()["found"]] == ["mug", "lamp"]
    for service in (fastapi, django):
        blank = service.get("/search", params={"question": " "})
        assert (blank.status_code, "text_empty" in blank.json()["detail"]) == (422, True)
