"""What Flower shows of a job in words, and who may look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.errors import ConfigurationError
from embedq_worker.flower.access import Access, is_loopback
from embedq_worker.flower.counts import counts_only
from embedq_worker.flower.events import State
from embedq_worker.flower.rows import PARTLY_DEAD, in_words, readable

SENT: dict[str, Any] = {
    "type": "task-sent",
    "hostname": "gen1@stranger",
    "uuid": "1",
    "name": "embedq.embed",
    "args": "()",
    "kwargs": "{'job': {'items': [{'text': 'a text'}]}}",
    "routing_key": "embedq.docs.bulk",
    "timestamp": 1.0,
    "local_received": 1.0,
    "clock": 1,
}


def task(**fields: Any) -> Any:
    """A task as Flower has it."""
    return SimpleNamespace(
        **{"state": "SUCCESS", "result": None, "exception": None, "traceback": None} | fields
    )


MANY = {
    "items": 1_256,
    "stored": 1_254,
    "dead": 2,
    "dead: text/too_long": 2,
    "texts": 1_300,
    "cached": 12,
    "tokens": 4_133,
    "retries": 3,
    "milliseconds": 1_812,
}
ALL_DEAD = "all 2 items are dead letters (1 text/id_nul, 1 text/wrong_type); see `embedq dead-letters list`"
MANY_IN_WORDS = (
    "1,256 items: 2 dead (2 text/too_long), 1,254 stored; "
    "1,300 texts, 12 cached, 4,133 tokens, 3 retried, 1,812 ms"
)


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"items": 1, "answered": 1}, "1 item: 1 answered"),
        ({"items": 2, "deleted": 2, "milliseconds": 7}, "2 items: 2 deleted; 7 ms"),
        (MANY, MANY_IN_WORDS),
    ],
)
def test_a_result_in_words(summary: dict[str, int], said: str) -> None:
    """What is wrong first, then what became of the rest, and what it took."""
    assert in_words(summary) == said


def test_a_job_that_died_in_part_is_no_success() -> None:
    """Celery knows success and failure only."""
    assert readable(task(result={"items": 2, "stored": 1, "dead": 1})).state == PARTLY_DEAD
    assert readable(task(result={"items": 2, "stored": 2})).state == "SUCCESS"
    assert readable(task(result=dict(MANY))).retries == 3


def test_a_failure_in_words() -> None:
    """Its class and what it says, without the traceback of the place where Celery is told."""
    shown = readable(task(exception="AllItemsDead('the item is a dead letter')", traceback="Traceback …"))

    assert (shown.result, shown.traceback) == ("AllItemsDead: the item is a dead letter", None)
    assert readable(task(exception="TaskRevokedError(1)")).result == "TaskRevokedError(1)"


def test_what_a_strange_client_sends_is_not_kept() -> None:
    """Its events may come before the worker's, and after them."""
    state = State(max_tasks_in_memory=10)
    state.event(SENT)
    kept = state.tasks["1"]

    assert (kept.name, kept.args, kept.kwargs) == ("embedq.embed:docs", "()", None)
    assert "a text" not in repr(counts_only(SENT))
    assert counts_only(SENT | {"name": "others.task"})["name"] == "others.task"


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of a worker."""
    common = {"hostname": "celery@theirs", "uuid": "1", "timestamp": 1.0, "local_received": 1.0, "clock": 1}
    return {"type": kind, **common, **fields}


@pytest.mark.parametrize("name", ["shop.send_mail", "embedq.embed:docs"])
def test_of_other_applications_only_name_and_state_are_kept(name: str) -> None:
    """Theirs are sent to the same place; also where they take a name of ours."""
    received = event("task-received", name=name, args="('a text',)", kwargs="{'to': 'a text'}")
    state = State(max_tasks_in_memory=10)
    state.event(received)
    state.event(event("task-started", pid=1))
    state.event(event("task-succeeded", result="'a text'", runtime=0.5))
    kept = state.tasks["1"]

    assert (kept.name, kept.state, kept.runtime) == (name, "SUCCESS", 0.5)
    assert (kept.args, kept.kwargs, kept.result) == (None, None, None)
    assert "a text" not in repr(vars(kept))


def test_of_their_failures_the_class_is_kept() -> None:
    """An exception quotes, and a traceback shows lines; so does a field that nobody knows."""
    state = State(max_tasks_in_memory=10)
    state.event(event("task-failed", exception="ValueError('a text')", traceback="a text", other="a text"))
    kept = state.tasks["1"]

    assert (kept.state, kept.exception) == ("FAILURE", "ValueError")
    assert "a text" not in repr(vars(kept))


def test_what_our_workers_say_is_kept() -> None:
    """Counts, in the forms that they have for them."""
    ours = [
        event(
            "task-received",
            args="()",
            kwargs="{'collection': 'docs', 'lane': 'live', 'items': 2, 'characters': 66}",
        ),
        event("task-succeeded", result=MANY),
        event("task-failed", exception="AllItemsDead(" + repr(ALL_DEAD) + ")"),
    ]
    assert [counts_only(each) for each in ours] == ours


@pytest.mark.parametrize(
    "result", [{"a text": 1}, {"items": "a text"}, {"dead: a text": 1}, {"items\n": 1}, ["a text"]]
)
def test_a_result_of_another_form_is_not_kept(result: object) -> None:
    """Whoever sent it."""
    assert "result" not in counts_only(event("task-succeeded", result=result))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(address: str) -> None:
    """Only this machine reaches them."""
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "192.0.2.7", "localhost.test", "127.0.0.1.test"])
def test_not_loopback(address: str) -> None:
    """A name may lead anywhere tomorrow."""
    assert not is_loopback(address)


@given(st.text())
def test_only_the_header_of_the_user_is_let_in(header: str) -> None:
    """Whatever else is sent is refused, and nothing is raised."""
    access = Access.from_environment({"EMBEDQ_FLOWER_PASSWORD": "secret"})

    assert access.admits(access.header["Authorization"])
    assert not access.admits(header)
    assert not access.admits(None)


def test_the_password_from_a_file(tmp_path: Path) -> None:
    """Without the line's end; empty variables count as unset."""
    (tmp_path / "password").write_text("secret\n")
    file = {"EMBEDQ_FLOWER_PASSWORD_FILE": str(tmp_path / "password"), "EMBEDQ_FLOWER_PASSWORD": ""}

    assert Access.from_environment(file).credentials == "embedq:secret"
    assert Access.from_environment(file | {"EMBEDQ_FLOWER_USER": "me"}).credentials == "me:secret"
    assert Access.from_environment({}).credentials is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"EMBEDQ_FLOWER_PASSWORD": "a b"}, "EMBEDQ_FLOWER_PASSWORD: "),
        ({"EMBEDQ_FLOWER_PASSWORD": "a", "EMBEDQ_FLOWER_PASSWORD_FILE": "b"}, "are both set"),
        ({"EMBEDQ_FLOWER_PASSWORD_FILE": "/missing"}, "EMBEDQ_FLOWER_PASSWORD_FILE: /missing cannot be read"),
        ({"EMBEDQ_FLOWER_USER": "a:b"}, "EMBEDQ_FLOWER_USER: "),
    ],
)
def test_what_cannot_be_meant(environment: dict[str, str], said: str) -> None:
    """It is said which variable, and no password is quoted."""
    with pytest.raises(ConfigurationError, match=said):
        Access.from_environment(environment)
