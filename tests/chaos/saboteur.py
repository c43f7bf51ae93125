"""One safeguard off: changes of a worker's process, see ``tests.support.changed``.

A run of the harness in which nothing is broken shows nothing unless it breaks where a safeguard is missing.
Each function here takes one away from this process alone; the product has no switch for it. What a function
patches it first looks for, so that one that has moved is an error and not a safeguard left on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def stock_transport() -> None:
    """Kombu's own Redis transport: a message is popped first and recorded in a second round trip."""
    from embedq_worker import app, endings

    create_app = app.create_app

    def create_stock_app(settings: Any) -> Any:
        made = create_app(settings)
        made.conf.broker_transport = "redis"
        # What a dead worker had recorded comes back within seconds, as from ours; by default after an hour.
        made.conf.broker_transport_options |= {
            "visibility_timeout": 3,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        }
        return made

    def report(_tag: str, callback: Any, runtime: float, summary: Any) -> None:
        """Stock Celery acknowledges by itself."""
        callback((0, summary, runtime))

    replace(app, "create_app", create_stock_app)
    replace(endings, "report", report)


def version_guard() -> None:
    """The writer takes what comes last, whatever its version."""
    from embedq_sql import statement
    from embedq_worker.store import writer

    order = "(held.version, held.content_hash) {} (EXCLUDED.version, EXCLUDED.content_hash)"
    guard = f"WHERE {order.format('<')}\n   OR (%(again)s AND {order.format('=')})\n"
    assert guard in statement("advance_ledger"), "the guard of versions is written differently now"
    replace(writer, "statement", lambda name: statement(name).replace(guard, ""))


def heartbeat() -> None:
    """A lease lapses before it is renewed, and the worker does not notice: it keeps what others take over."""
    from embedq_worker.intake import heartbeat as module
    from embedq_worker.pool import EnginePool

    replace(module, "LIFE", 0.3)  # short of one, not none: who never lives is nobody who takes over
    replace(module.Heartbeat, "is_alive", property(lambda _: True))
    replace(EnginePool, "_release", lambda _: None)


def bisecting() -> None:
    """All texts of a batch that the service refuses are at fault."""
    from embedq_worker.engine.calling.calls import Calls

    def refuse_all(self: Any, batch: Any, error: Any) -> None:
        for text in batch.texts:
            self._asked.refuse(text, batch.shape, error)

    replace(Calls, "_split", refuse_all)


def index_matching() -> None:
    """An answer's vectors belong to the texts in the order in which they come."""
    from embedq_worker.api import response

    fill = response._fill

    def fill_in_order(vectors: Any, items: Any) -> None:
        for number, item in enumerate(items):
            item.index = number
        fill(vectors, items)

    replace(response, "_fill", fill_in_order)


SAFEGUARDS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (stock_transport, version_guard, heartbeat, bisecting, index_matching)
}


def replace(owner: Any, name: str, substitute: Any) -> None:
    """Put something in the place of what a safeguard is made of, if that is still there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: take its safeguard away where it is now"
    setattr(owner, name, substitute)
