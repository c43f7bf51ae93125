"""The clients of docs/examples: real ones of other languages, which speak the contract and nothing else.

They come as the user ``producer`` of docker/redis/users.acl, so that what they may do is what they need.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from embedq.testing import FakeAPI, vector_of
from embedq_worker.embedded.valkey import Valkey
from tests.support.node import node
from tests.support.pages import ROOT
from tests.support.programs import needs
from tests.support.redis_users import users_of
from tests.support.stack import DIMENSIONS, Stack

HERE = Path(__file__).parent
ENQUEUE = ROOT / "docs/examples/shell/enqueue.sh"
PAGE = ROOT / "docs/languages.md"
TEXT = 'öffnet ☃\n"\\ 🙂'
JOB = Draft202012Validator(json.loads((ROOT / "docs/job.schema.json").read_text("utf-8")))
ENTRIES = {
    "": "",
    "docs": json.dumps({"model": "m", "dimensions": DIMENSIONS, "versions": "clock"}),
    "numbered": json.dumps({"model": "m", "dimensions": DIMENSIONS, "versions": "given"}),
}


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The broker's URL for each of its users."""
    with Valkey() as server:
        yield users_of(server, tmp_path)


@pytest.fixture
def broker(urls: dict[str, str]) -> Iterator[redis.Redis]:
    """The broker, with two collections published."""
    with redis.Redis.from_url(urls["admin"]) as client:
        client.hset("embedq:registry", mapping=ENTRIES)
        yield client


@pytest.fixture
def stack(urls: dict[str, str], database_url: str, fake_api: FakeAPI, tmp_path: Path) -> Iterator[Stack]:
    """An installation with the collection docs."""
    made = Stack(urls["admin"], database_url, fake_api, tmp_path)
    made.environment["EMBEDQ_BROKER_URL"] = urls["worker"]
    made.create("docs")
    yield made
    made.close()


def run(url: str, *command: str | Path, text: str = "") -> str:
    """What a client prints that must succeed and have nothing to complain of."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "EMBEDQ_BROKER_URL": url},
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run_node(url: str, *deeds: str) -> list[Any]:
    """What deeds of ``deeds.mjs`` find out."""
    printed = run(url, node(), HERE / "deeds.mjs", *deeds)
    return [json.loads(line) for line in printed.splitlines()]


def run_shell(url: str) -> None:
    """Enqueue three texts from a shell."""
    needs("redis-cli")
    for item_id, text, *lane in (("shell", TEXT), ('shell "2"', "\ttwo\x01", "bulk"), ("shell-empty", "")):
        run(url, ENQUEUE, "docs", item_id, *lane, text=text)


def run_page(url: str) -> None:
    """The blocks of docs/languages.md."""
    blocks = dict(re.findall(r"^```(js|sh)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    program = blocks["js"].replace("redis://localhost:6379/0", url)
    client = (ROOT / "docs/examples/node/embedq.mjs").as_uri()
    run(url, node(), "--input-type=module", "--eval", f'import {{ Client }} from "{client}"; {program}')
    run(url, "sh", "-c", f"cd {ROOT} && {blocks['sh']}".replace("docs 42", "docs 43"))


def sent(broker: redis.Redis) -> list[dict[str, Any]]:
    """The messages in the queues of docs, in the order in which they were sent; ``body`` is decoded."""
    raw = [each for queue in ("embedq.docs", "embedq.docs.bulk") for each in broker.lrange(queue, 0, -1)]
    messages = [json.loads(each) for each in reversed(raw)]
    return [each | {"body": json.loads(base64.b64decode(each["body"]))} for each in messages]


def complaints(message: dict[str, Any]) -> list[str]:
    """Where a message is not as docs/contract.md says."""
    headers, (_, kwargs, _) = message["headers"], message["body"]
    text = kwargs["job"]["items"][0].get("text") or "none"
    wrong = [error.message for error in JOB.iter_errors(kwargs["job"])]
    wrong += ["a text in the headers"] if json.dumps(text)[1:-1] in json.dumps(headers) else []
    expected = {
        "task": "embedq.embed",
        "shadow": "embedq.embed:docs",
        "argsrepr": "()",
        "ignore_result": True,
    }
    wrong += [f"header {name}" for name, value in expected.items() if headers.get(name) != value]
    return wrong


def test_what_node_sends_is_what_the_contract_says(broker: redis.Redis, urls: dict[str, str]) -> None:
    """Over plain Redis and over celery-node: job, headers, versions by the broker's clock."""
    run_node(urls["producer"], "plain", "celery")
    messages = sent(broker)
    assert len(messages) == 2 + 1 + 1 + 2 + 1
    assert [found for message in messages for found in complaints(message)] == []
    for message in messages:
        versions = [item["version"] for item in message["body"][1]["job"]["items"]]
        assert versions == sorted(set(versions))
        assert 0 <= versions[0] - message["headers"]["embedq_enqueued_at"] * 1e6 < 1e6
    assert broker.acl_log() == []


def test_what_a_shell_sends_is_what_the_contract_says(broker: redis.Redis, urls: dict[str, str]) -> None:
    """Whatever characters are in the text."""
    run_shell(urls["producer"])
    messages = sent(broker)
    assert [found for message in messages for found in complaints(message)] == []
    items = [item for message in messages for item in message["body"][1]["job"]["items"]]
    assert {item["id"]: item["text"] for item in items} == {
        "shell": TEXT,
        'shell "2"': "\ttwo\x01",
        "shell-empty": "",
    }
    assert broker.acl_log() == []


def test_a_shell_says_that_nothing_was_enqueued(broker: redis.Redis, urls: dict[str, str]) -> None:
    """The server's reason, and an exit code."""
    needs("redis-cli")
    environment = {**os.environ, "EMBEDQ_BROKER_URL": urls["monitor"]}
    done = subprocess.run(
        [str(ENQUEUE), "docs", "1"],
        env=environment,
        input="text",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "not enqueued: NOPERM" in done.stderr
    assert sent(broker) == []


def test_node_refuses_before_it_sends(broker: redis.Redis, urls: dict[str, str]) -> None:
    """An unknown collection, what the schema refuses, a version where the clock gives it."""
    assert run_node(urls["producer"], "refused") == [
        'there is no collection "nowhere"; there are: docs, numbered',
        "job/items/0/id must be string",
        "the item 1 has a version: here the clock gives them",
        "no worker answered a query of docs within 0.1 s",
    ]
    assert sent(broker) == []


def test_node_gives_the_callers_version(broker: redis.Redis, urls: dict[str, str]) -> None:
    """To a collection that has its versions given, and to no other."""
    assert run_node(urls["producer"], "given") == ["the item 1 has no version"]
    (message,) = broker.lrange("embedq.numbered", 0, -1)
    (item,) = json.loads(base64.b64decode(json.loads(message)["body"]))[1]["job"]["items"]
    assert item == {"id": "1", "text": "seventh", "version": 7}


def test_a_message_of_node_has_at_most_a_mebibyte(broker: redis.Redis, urls: dict[str, str]) -> None:
    """As UTF-8, not in JavaScript's characters."""
    run_node(urls["producer"], "long")
    assert [len(message["body"][1]["job"]["items"]) for message in sent(broker)] == [2, 1]


def test_what_they_send_arrives(stack: Stack, urls: dict[str, str]) -> None:
    """Items as rows, a query as a vector, bad messages as dead letters with a reason; one worker for all."""
    with stack.worker() as worker:
        found = run_node(urls["producer"], "plain", "celery", "stock", "bad", "query")
        run_shell(urls["producer"])
        run(urls["producer"], HERE / "bad.sh")
        run_page(urls["producer"])
        stack.wait_until_done()
    rows = stack.stored("docs")
    assert rows.pop("plain-299") == rows.pop("shell") + " 299" == f"{TEXT} 299"
    assert rows.pop("42") == rows.pop("43") == "how leases lapse"
    assert {name for name in rows if not name.startswith("plain-")} == {
        *("celery", "celery-meta", "celery-bulk", "stock", "stock-v1", 'shell "2"'),
    }
    assert len([name for name in rows if name.startswith("plain-")]) == 298 + 1
    assert stack.sql("SELECT id, metadata FROM docs WHERE metadata <> '{}' ORDER BY id") == [
        ("42", {"lang": "en"}),
        ("celery-meta", {"n": 1}),
        ("plain-meta", {"lang": "en"}),
    ]
    assert found == [{"vector": vector_of("a question", DIMENSIONS).tolist(), "generation": 1}]
    assert letters(stack) == BURIED
    assert TEXT[:6] not in worker.output


BAD = ["undecodable", "undecodable", "unknown_version", "wrong_queue"]
"""No JSON and no base64; a version and a collection that there is not."""
NO_TEXT = ("celery-bad", "node-no-text", "shell-no-text")
BURIED = sorted(
    [
        *(f"not_a_job {code}" for code in (*BAD, *BAD)),
        *(f"text text_missing {name}" for name in NO_TEXT),
        "text text_empty shell-empty",
    ]
)
"""Class, code and id of what node and the shell send that cannot be embedded."""


def letters(stack: Stack) -> list[str]:
    """The dead letters."""
    found = stack.sql("SELECT class, code, item_id FROM embedq.dead_letter")
    return sorted(" ".join(part for part in letter if part) for letter in found)
