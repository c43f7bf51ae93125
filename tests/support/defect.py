"""Defects of our own whose exceptions quote the text, by a change of the running process.

See ``tests.support.changed``.
"""

from __future__ import annotations

from typing import NoReturn

from embedq_worker.api import ApiClient
from embedq_worker.engine.pipeline import Pipeline
from embedq_worker.engine.work import RunningItem
from embedq_worker.store import rows
from embedq_worker.store.rows import Row

SECRET = "what the customer wrote"


def when_opened() -> None:
    """The engine's parts are half open when one raises."""
    ApiClient.__aenter__ = _enter  # type: ignore[method-assign]  # what this module is for


def when_taken_in() -> None:
    """Each item that is taken in raises."""
    Pipeline.take = _take  # type: ignore[method-assign]  # what this module is for


def when_written() -> None:
    """Each batch of rows raises while it is encoded."""
    rows.encode = _encode  # type: ignore[assignment]  # what this module is for


async def _enter(self: ApiClient) -> NoReturn:  # noqa: ARG001  # a method
    raise RuntimeError(f"cannot open {SECRET!r}")


def _take(self: Pipeline, item: RunningItem) -> NoReturn:  # noqa: ARG001  # a method
    raise RuntimeError(f"cannot take {item.text!r}")


def _encode(batch: list[Row], *_: object) -> NoReturn:
    raise RuntimeError(f"cannot encode {batch!r}")
