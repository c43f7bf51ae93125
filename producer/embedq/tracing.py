"""The producer's span, where the application traces with OpenTelemetry. The package is not needed for it.

The span is a child of the application's current one, and the messages carry its name in W3C's header
``traceparent``, so that the worker's spans belong to the same trace. Names and counts go into it, never a
text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from embedq.errors import EmbedqError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PARENT_HEADER = "traceparent"


class Sending:
    """What is being sent, and its span if there is one."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """W3C's header, version 00; None where nothing is traced."""
        if self._span is None:
            return None
        context = self._span.get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"

    def sent(self, items: int) -> None:
        """So many items are in Redis."""
        if self._span is not None:
            self._span.set_attribute("embedq.items", items)


_UNTRACED = nullcontext(Sending())


def sending(collection: str, queue: str) -> AbstractContextManager[Sending]:
    """The span of one call of the producer.

    Who traces has imported OpenTelemetry before; else it is not looked for. redis-py imports it where it is
    installed, so that it may be there and nobody traces.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _UNTRACED
    return _traced(collection, queue)


@contextmanager
def _traced(collection: str, queue: str) -> Iterator[Sending]:
    from opentelemetry import trace

    attributes = {
        "messaging.system": "redis",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": queue,
        "embedq.collection": collection,
    }
    span = trace.get_tracer("embedq").start_span(
        f"send {queue}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    )
    try:
        yield Sending(span)
    except BaseException as error:
        # By its type: what an exception of the application's own iterable says may quote a text.
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)
        span.set_attribute("error.type", type(error).__name__)
        if isinstance(error, EmbedqError):
            span.set_attribute("embedq.items", getattr(error, "enqueued", 0))
        raise
    finally:
        span.end()
