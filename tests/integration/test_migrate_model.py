"""`embedq collection migrate`: another model for a collection that is written and searched meanwhile."""

from __future__ import annotations

from collections import Counter

from tests.support.moving import SALT, Moving, give_two_models
from tests.support.stack import DIMENSIONS, MODEL, Stack

NEW = "text-embedding-3-large"
TO_NEW = ("collection", "migrate", "docs", "--model", NEW, "--dimensions", str(DIMENSIONS))


def migrate(stack: Stack, *options: str, code: int = 0) -> str:
    """The command on the collection."""
    return stack.command("collection", "migrate", "docs", *options, code=code)


def test_switch_and_undo_under_load(stack: Stack) -> None:
    """No statement sees a mixed result, no write is lost, and going back works."""
    give_two_models(stack.api, MODEL, NEW)
    stack.create("docs")
    moving = Moving(stack.database_url, stack.broker_url, DIMENSIONS)
    moving.load(500)
    with stack.worker(processes=2):
        stack.wait_until_done()
        stack.command("index", "build", "docs")
        with moving.going_on(50) as watch:
            stack.command(*TO_NEW)
            assert set(watch.answers) == {1}
            for step, generation in (("--switch", 2), ("--undo", 1), ("--switch", 2)):
                migrate(stack, step)
                moving.wait_for_more(generation)
        stack.wait_until_done()
        assert watch.mixed == []
        assert watch.errors == []
        assert watch.refused > 50
        migrate(stack)
        moving.check_rows("embedding", SALT)
        moving.check_rows("embedding_g1", "")
        billed = stack.api.billings(list(moving.expected.values()))
        again = [
            (text, [(call.model, call.at) for call in calls])
            for text, calls in zip(moving.expected.values(), billed, strict=True)
            if max(Counter(call.model for call in calls).values()) > 1
        ]
        assert again == []
        migrate(stack, "--finish")
        assert stack.sql("SELECT model, generation FROM embedq.collection") == [(NEW, 2)]
