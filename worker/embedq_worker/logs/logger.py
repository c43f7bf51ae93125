"""The logger of the worker's modules: an event's name for machines, a sentence for people, fields for both.

>>> logger = get_logger(__name__)
>>> logger.warning("key_changed", "{path} has another key; it is used from now on", path="/run/secrets/key")

The sentence is a template of the fields, and is put together only where the level is on. It goes through the
standard library's logger of that name: who has set up nothing sees the sentences, and so do tests.
"""

from __future__ import annotations

import logging
import traceback

Field = str | int | float | None
"""A field's value: an id, a name, a count, a code, seconds. Never a text, a key or a vector."""

EVENT = "embedq_event"
TEMPLATE = "embedq_template"
FIELDS = "embedq_fields"
"""The attributes of a log record that carry the event's name, its sentence's template and its fields."""


class Logger:
    """Says events by the standard logger of a ``name``; the level says who has to act.

    debug: for developers. info: what happened, and is as it should be. warning: look at it when you have
    time, or it has mended itself. error: something waits, or is lost, until a person acts. critical: the
    process ends.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, sentence: str, /, **fields: Field) -> None:
        """Say an event of level debug."""
        self._say(logging.DEBUG, event, sentence, fields)

    def info(self, event: str, sentence: str, /, **fields: Field) -> None:
        """Say an event of level info."""
        self._say(logging.INFO, event, sentence, fields)

    def warning(self, event: str, sentence: str, /, **fields: Field) -> None:
        """Say an event of level warning."""
        self._say(logging.WARNING, event, sentence, fields)

    def error(self, event: str, sentence: str, /, **fields: Field) -> None:
        """Say an event of level error."""
        self._say(logging.ERROR, event, sentence, fields)

    def critical(self, event: str, sentence: str, /, **fields: Field) -> None:
        """Say an event of level critical."""
        self._say(logging.CRITICAL, event, sentence, fields)

    def _say(self, level: int, event: str, sentence: str, fields: dict[str, Field]) -> None:
        if self._logger.isEnabledFor(level):
            extra = {EVENT: event, TEMPLATE: sentence, FIELDS: fields}
            self._logger.log(level, sentence.format_map(fields), extra=extra, stacklevel=3)


def get_logger(name: str) -> Logger:
    """The logger of a module."""
    return Logger(name)


def failure(error: BaseException) -> dict[str, Field]:
    """The fields of an exception that is a defect of ours: ``error``, its type; ``traceback``, its places.

    What it says is left out, since it may quote a text.
    """
    return {"error": type(error).__name__, "traceback": places(error)}


def places(error: BaseException) -> str:
    """Where an exception came from, and what it came of, innermost last; without values of variables."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = "".join(traceback.format_tb(error.__traceback__))
    own = f"{type(error).__name__} at\n{frames}".rstrip("\n")
    return own if before is None else f"{places(before)}\nthen {own}"
