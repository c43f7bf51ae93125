"""The two forms of a log line: for people, and JSON for machines.

Every record takes the same way, ours and those of Celery, kombu and the rest. Of an exception its types and
places are shown, not what it says or the values of variables: these may quote a text.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import cache
from string import Formatter
from typing import Any

from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, plain_traceback
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from embedq_worker.logs.form import PROCESS_NUMBER, Form
from embedq_worker.logs.logger import EVENT, FIELDS, TEMPLATE, Field, failure

_Line = MutableMapping[str, Any]
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\r\t"
} | {ord(each): repr(each)[1:-1] for each in "\n\r\t\u2028\u2029"}
"""What would begin another line, or command the terminal, and how it is shown."""
_DIM, _RESET = "\x1b[2m", "\x1b[0m"


def formatter(form: Form, *, colours: bool = False) -> ProcessorFormatter:
    """What makes lines of log records."""
    last: list[Processor] = [_json, JSONRenderer()] if form == "json" else [_human, _renderer(colours)]
    return ProcessorFormatter(
        processors=[ProcessorFormatter.remove_processors_meta, *last], foreign_pre_chain=[_facts]
    )


def _facts(_: object, __: str, line: _Line) -> _Line:
    """All that a record says, under the names that the documentation gives them."""
    record: logging.LogRecord = line["_record"]
    facts = {
        **line,
        "created": record.created,
        "level": record.levelname,
        "logger": record.name,
        "event": getattr(record, EVENT, None),
        "process": _number(os.environ.get(PROCESS_NUMBER)),
        "pid": record.process,
        "message": _message(record, line["event"]),
        "said": _named_in(getattr(record, TEMPLATE, "")),
        "fields": dict(getattr(record, FIELDS, {})),
    }
    if exception := facts.pop("exc_info", None):
        facts["fields"] |= _exception(exception)
    return facts


def _message(record: logging.LogRecord, said: str) -> str:
    """Without what asyncio adds of a task that failed: the exception, with all that it says."""
    return said.partition("\n")[0] if record.name == "asyncio" else said.rstrip()


def _number(said: str | None) -> int | None:
    return int(said) if said is not None and said.isdecimal() else None


def _exception(information: Any) -> dict[str, Field]:
    error = information[1] if isinstance(information, tuple) else information
    return failure(error) if isinstance(error, BaseException) else {}


def _json(_: object, __: str, line: _Line) -> _Line:
    moment = datetime.fromtimestamp(line["created"], UTC).isoformat(timespec="milliseconds")
    head = {
        "timestamp": moment.replace("+00:00", "Z"),
        "level": line["level"].lower(),
        "logger": line["logger"],
        "event": line["event"],
        "message": line["message"],
        "process": line["process"],
        "pid": line["pid"],
    }
    said = head | line["fields"]
    return {name: value for name, value in said.items() if value is not None}


def _human(_: object, __: str, line: _Line) -> _Line:
    """The sentence, and behind it what is not said in it."""
    fields = line["fields"]
    traceback = fields.pop("traceback", None)
    left = {name: value for name, value in fields.items() if name not in line["said"] and value is not None}
    source = {"event": line["event"]} if line["event"] else {"logger": line["logger"]}
    number = "" if line["process"] is None else f"{line['process']}/"
    return {
        "time": datetime.fromtimestamp(line["created"], UTC).isoformat(" ", "milliseconds")[:23],
        "level": line["level"],
        "process": f"{number}{line['pid']}",
        "message": _on_one_line(line["message"]),
        **source,
        **{name: _on_one_line(value) for name, value in left.items()},
        **({"exception": traceback} if traceback else {}),
    }


def _on_one_line(value: Field) -> Field:
    """What a value says cannot look like a line of its own."""
    return value.translate(_CONTROLS) if isinstance(value, str) else value


def _renderer(colours: bool) -> ConsoleRenderer:
    dim, reset = (_DIM, _RESET) if colours else ("", "")

    def level(key: str, value: object) -> str:  # noqa: ARG001  # a ColumnFormatter
        colour = _COLOURS.get(str(value), "") if colours else ""
        return f"{colour}{value:7}{reset if colour else ''}"

    return ConsoleRenderer(
        columns=[
            Column("time", KeyValueColumnFormatter(None, dim, reset, str)),
            Column("level", level),
            Column("process", KeyValueColumnFormatter(None, dim, reset, str)),
            Column("message", KeyValueColumnFormatter(None, "", "", str)),
            Column("", KeyValueColumnFormatter(dim, dim, reset, str)),
        ],
        sort_keys=False,
        exception_formatter=plain_traceback,
    )


@cache
def _named_in(template: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name)
