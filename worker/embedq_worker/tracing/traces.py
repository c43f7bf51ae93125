"""Spans of messages, calls and transactions, and how they hang together.

A message's span is a child of its producer's. A call serves texts of many messages: its span is a child of
the first of them, with links to all, and each of them gets a link to it; so does a transaction's. So every
message's trace leads to its row. A
producer that says that its trace is not sampled decides that for all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from embedq_worker.errors import ApiError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as Span
    from opentelemetry.trace import SpanKind, Tracer

    Spans = tuple[Span, ...]
else:
    Span, Spans = object, tuple

Facts = dict[str, str | int | float]
"""Attributes of a span: names, ids, counts, seconds."""
MOST_LINKS = 64
"""Of one call or transaction: the SDK keeps no more than 128 of a span."""
PARENT_HEADER = "traceparent"
_SENDING_TIME = 3.0
"""Seconds that the last spans have to get away when the worker stops."""


class Traces:
    """The process's traces; until it is opened nothing happens, and OpenTelemetry is not needed."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None
        self._provider: TracerProvider | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is traced."""
        return self._tracer is not None

    def open(self, provider: TracerProvider | None) -> None:
        """Send spans by ``provider``; none means that nobody wants them."""
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("embedq_worker")

    def close(self) -> None:
        """Send what is left; gives up after some seconds. Blocks."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:  # its own time-outs are longer than a stop may take
            closing = threading.Thread(target=provider.shutdown, name="embedq-traces", daemon=True)
            closing.start()
            closing.join(_SENDING_TIME)

    def message(self, headers: Mapping[str, Any], queue: str, task_id: str, enqueued_at: float) -> Spans:
        """Begin the span of a message that is taken; empty where it is not traced."""
        if self._tracer is None:
            return ()
        from opentelemetry.trace import SpanKind

        attributes: Facts = {
            **_messaging(queue),
            "messaging.message.id": task_id,
            "embedq.queued_seconds": round(max(0.0, time.time() - enqueued_at), 3),
        }
        span = self._tracer.start_span(
            f"process {queue}", context=_parent_of(headers), kind=SpanKind.CONSUMER, attributes=attributes
        )
        return (span,) if span.is_recording() else ()

    @contextmanager
    def call(self, model: str, texts: int, spans: Iterable[Span]) -> Iterator[None]:
        """The span of one call of the API, for the messages of ``spans``."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.trace import SpanKind

        facts: Facts = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.request.model": model,
            "embedq.texts": texts,
        }
        with self._shared(f"embeddings {model}", SpanKind.CLIENT, facts, spans):
            yield

    @contextmanager
    def write(self, collection: str, rows: int, spans: Iterable[Span]) -> Iterator[None]:
        """The span of one transaction, which ends with its commit, for the messages of ``spans``."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.trace import SpanKind

        facts: Facts = {
            "db.system.name": "postgresql",
            "db.operation.name": "upsert",
            "db.operation.batch.size": rows,
            "embedq.collection": collection,
        }
        with self._shared(f"write {collection}", SpanKind.CLIENT, facts, spans):
            yield

    @contextmanager
    def _shared(self, name: str, kind: SpanKind, facts: Facts, spans: Iterable[Span]) -> Iterator[None]:
        from opentelemetry.trace import Link, set_span_in_context

        messages = list({id(span): span for span in spans if span.is_recording()}.values())
        if self._tracer is None or not messages:
            yield
            return
        linked = messages[:MOST_LINKS]
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(linked[0]),
            kind=kind,
            attributes={**facts, "embedq.messages": len(messages)},
            links=[Link(message.get_span_context()) for message in linked],
        )
        for message in linked[1:]:
            message.add_link(span.get_span_context())
        try:
            yield
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()


TRACES = Traces()
"""Of this process."""


def end_message(spans: Spans, summary: Mapping[str, int]) -> None:
    """A message is done: ``summary`` says what became of its items, as counts."""
    for span in spans:
        for name, count in summary.items():
            span.set_attribute(f"embedq.{name}", count)
        span.end()


def _fail(span: Span, error: BaseException) -> None:
    """By type and codes: what an exception says may quote a text."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR, type(error).__name__)
    span.set_attribute("error.type", type(error).__name__)
    if isinstance(error, ApiError):
        for name, value in (("http.response.status_code", error.status), ("embedq.code", error.code)):
            if value is not None:
                span.set_attribute(name, value)


def _parent_of(headers: Mapping[str, Any]) -> Any:
    """The producer's span as W3C's header names it; a header that is none is ignored."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    said = headers.get(PARENT_HEADER)
    carrier = {PARENT_HEADER: said} if isinstance(said, str) else {}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _messaging(queue: str) -> dict[str, str]:
    return {
        "messaging.system": "redis",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": queue,
    }
