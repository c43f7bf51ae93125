"""Both forms of a log line, of our own records and of others'."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from embedq.errors import ConfigurationError
from embedq_worker.logs import failure, get_logger
from embedq_worker.logs.form import PROCESS_NUMBER, Form, read_form
from embedq_worker.logs.lines import formatter
from embedq_worker.logs.setup import set_up_logs

TEXT = "a text that nobody may read"
logger = get_logger("embedq_worker.some")

Say = Callable[[Form, Callable[[], object]], str]


@pytest.fixture
def say(caplog: pytest.LogCaptureFixture) -> Say:
    """What the one record of an action looks like in a form."""
    caplog.set_level(logging.INFO)

    def line(form: Form, act: Callable[[], object]) -> str:
        act()
        (record,) = caplog.records
        return formatter(form).format(record)

    return line


def pause() -> None:
    """Say an event whose sentence names one field of three."""
    logger.error("model_paused", "model {model} is paused", model="m-1", code="no_credits", status=None)


def fail(say: Callable[[Exception], object]) -> None:
    """Say an exception that quotes a text, with a variable that holds one."""
    held = TEXT
    try:
        try:
            raise ValueError(held)
        except ValueError as error:
            raise RuntimeError(TEXT) from error
    except RuntimeError as error:
        say(error)


def test_json_is_one_object_with_the_fields(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is None is left out."""
    monkeypatch.setenv(PROCESS_NUMBER, "3")
    said: dict[str, Any] = json.loads(say("json", pause))
    moment = said.pop("timestamp")
    assert moment.endswith("Z")
    assert len(moment) == len("2026-11-26T21:11:26.327Z")
    assert said == {
        "level": "error",
        "logger": "embedq_worker.some",
        "event": "model_paused",
        "message": "model m-1 is paused",
        "process": 3,
        "pid": os.getpid(),
        "model": "m-1",
        "code": "no_credits",
    }


def test_a_person_reads_the_sentence_and_what_it_does_not_say(say: Say) -> None:
    """The model is in the sentence, the code is not."""
    line = say("human", pause)
    assert line[24:] == f"ERROR   {os.getpid()} model m-1 is paused event=model_paused code=no_credits"


@pytest.mark.parametrize("form", ["human", "json"])
def test_of_a_defect_the_types_and_places_are_said(say: Say, form: Form) -> None:
    """Neither what it says nor the values of variables; the same where others log an exception."""
    line = say(form, lambda: fail(lambda error: logger.error("broken", "{error} broke it", **failure(error))))
    assert TEXT not in line
    assert "RuntimeError broke it" in line
    assert "ValueError at" in line
    assert "raise ValueError(held)" in line


@pytest.mark.parametrize("form", ["human", "json"])
def test_an_exception_that_another_logs_is_told_the_same_way(say: Say, form: Form) -> None:
    """With its traceback in one field."""
    theirs = logging.getLogger("celery.worker")
    line = say(form, lambda: fail(lambda error: theirs.error("Oh %s", "no", exc_info=error)))
    assert TEXT not in line
    assert "then RuntimeError at" in line
    if form == "json":
        said = json.loads(line)
        assert (said["logger"], said["message"], said["error"]) == ("celery.worker", "Oh no", "RuntimeError")
        assert "event" not in said


FORGED = "m-1\n2026-11-26 21:00:00.000 INFO    1 all is well\r\x1b[31m\x85\u2028"


@pytest.mark.parametrize(
    "act",
    [
        lambda: logger.error("paused", "model {model} is paused", model=FORGED),
        lambda: logger.error("paused", "a model is paused", model=FORGED),
        lambda: logging.getLogger("celery").error("model %s is paused", FORGED),
    ],
)
def test_nothing_that_is_said_looks_like_a_line(say: Say, act: Callable[[], None]) -> None:
    """Nor commands the terminal, in the sentence and in a field."""
    line = say("human", act)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert r"m-1\n2026" in line.replace("\\\\", "\\")
    assert "all is well" in line


def test_an_exception_that_nothing_can_catch_is_told_the_same_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would print what it says."""

    class Broken:
        def __del__(self) -> None:
            raise ValueError(TEXT)

    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        set_up_logs(logging.INFO, form="human")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
    broken = Broken()
    del broken
    (record,) = caplog.records
    line = formatter("human").format(record)
    assert "exception that nothing can catch was ignored: ValueError" in line
    assert TEXT not in line


def test_what_asyncio_says_of_a_lost_exception_is_cut(say: Say) -> None:
    """It would say the exception with all that this says."""
    lost = f"Task exception was never retrieved\nfuture: <Task exception={TEXT!r}>"
    assert json.loads(say("json", lambda: logging.getLogger("asyncio").error(lost)))["message"] == (
        "Task exception was never retrieved"
    )


def test_what_is_not_asked_for_is_not_put_together() -> None:
    """A level that is off costs no formatting."""

    class Costly(str):
        __slots__ = ()

        def __format__(self, _: str) -> str:
            raise AssertionError("it was formatted")

    quiet = get_logger("embedq_worker.quiet")
    logging.getLogger("embedq_worker.quiet").setLevel(logging.WARNING)
    quiet.info("nothing", "it is {what}", what=Costly("costly"))
    with pytest.raises(AssertionError):
        quiet.warning("something", "it is {what}", what=Costly("costly"))


def test_another_form_is_refused() -> None:
    """By the name of its variable."""
    assert [read_form({}), read_form({"EMBEDQ_LOG_FORMAT": ""})] == ["human", "human"]
    assert read_form({"EMBEDQ_LOG_FORMAT": "json"}) == "json"
    with pytest.raises(ConfigurationError, match="EMBEDQ_LOG_FORMAT: expected human or json"):
        read_form({"EMBEDQ_LOG_FORMAT": "JSON"})
