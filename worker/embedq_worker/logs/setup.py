"""One form for every log of a process: the worker's own, Celery's, kombu's, the supervisor's."""

from __future__ import annotations

import logging
import sys
import threading
from logging.handlers import WatchedFileHandler
from types import TracebackType

from embedq_worker.logs.form import Form
from embedq_worker.logs.lines import formatter
from embedq_worker.logs.logger import failure, get_logger

_QUIET = ("celery.worker.strategy", "celery.app.trace", "httpx", "kombu")
"""They log every message or request at level INFO, and their bodies at DEBUG: warnings only."""

logger = get_logger(__name__)


def set_up_logs(level: int | str, *, form: Form, file: str | None = None) -> None:
    """Have the root logger say all from ``level`` on in one ``form``, to ``file`` or the error output.

    What was set up before is replaced, so that nothing is said twice.
    """
    handler = logging.StreamHandler() if file is None else WatchedFileHandler(file, encoding="utf-8")
    handler.setFormatter(formatter(form, colours=file is None and sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _process_ended
    threading.excepthook = _thread_ended
    sys.unraisablehook = _ignored


def _process_ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, Exception):
        logger.critical(
            "process_ended", "the process ends with an exception of its own: {error}", **failure(error)
        )
    else:
        sys.__excepthook__(kind, error, trace)


def _thread_ended(told: threading.ExceptHookArgs) -> None:
    if isinstance(told.exc_value, Exception):
        name = told.thread.name if told.thread else None
        sentence = "thread {thread} ended with an exception of its own: {error}"
        logger.critical("thread_ended", sentence, thread=name, **failure(told.exc_value))


def _ignored(told: sys.UnraisableHookArgs) -> None:
    if isinstance(told.exc_value, Exception):
        sentence = "an exception that nothing can catch was ignored: {error}"
        logger.error("exception_ignored", sentence, **failure(told.exc_value))
