"""What Flower shows of a job: its result in words, and a job that died in part for what it is."""

from __future__ import annotations

from typing import Any

from embedq.wording import counted
from embedq_worker.engine.summary import OUTCOMES, Summary, causes

PARTLY_DEAD = "PARTLY DEAD"


def readable(task: Any) -> Any:
    """Flower's copy of a task, as it is shown; the option ``format_task``."""
    if isinstance(task.result, dict):
        if task.result.get("dead") and task.state == "SUCCESS":
            task.state = PARTLY_DEAD
        task.retries = task.result.get("retries", 0)  # of calls: Celery knows none of ours
        task.result = in_words(task.result)
    elif task.exception:
        task.result = _exception(task.exception)
        task.traceback = None  # of the place where we tell Celery
    return task


def in_words(summary: Summary) -> str:
    """``256 items: 2 dead (2 text/too_long), 254 stored; 260 texts, 12 cached, 4,133 tokens, 812 ms``."""
    said = _number(summary.get("items", 0), "item")
    if became := [f"{summary[name]:,} {name}" for name in OUTCOMES if summary.get(name)]:
        if summary.get("dead"):
            became[0] += f" ({causes(summary)})"
        said = f"{said}: {', '.join(became)}"
    took = _took(summary)
    return f"{said}; {', '.join(took)}" if took else said


def _took(summary: Summary) -> list[str]:
    took = []
    if texts := summary.get("texts"):
        cached, tokens = summary.get("cached", 0), summary.get("tokens", 0)
        took = [_number(texts, "text"), f"{cached:,} cached", _number(tokens, "token")]
    if retries := summary.get("retries"):
        took.append(f"{retries:,} retried")
    if "milliseconds" in summary:
        took.append(f"{summary['milliseconds']:,} ms")
    return took


def _number(count: int, what: str) -> str:
    return counted(count, what)


def _exception(said: str) -> str:
    """``AllItemsDead('all …')`` without its quotes."""
    kind, _, rest = said.partition("(")
    return f"{kind}: {rest[1:-2]}" if rest[:1] in ("'", '"') and rest[-1:] == ")" else said
