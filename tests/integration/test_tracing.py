"""One trace from ``enqueue`` to the row, as a collector receives it; and a collector that is away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from embedq.testing import faults
from embedq_worker.embedded.process import free_port
from tests.support.collector import Collector, attributes_of
from tests.support.stack import MODEL, Stack, wait_until

TEXT = "a text that no span may hold"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of an application that traces and enqueues."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def test_one_trace_leads_to_the_row(stack: Stack, sent: InMemorySpanExporter) -> None:
    """Enqueued, taken, called for and committed, in this order; no text in it."""
    stack.create("docs")
    with Collector() as collector:
        stack.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with stack.worker(), stack.producer() as producer:
            producer.enqueue_many(
                "docs", [{"id": str(number), "text": f"{number} {TEXT}"} for number in range(3)]
            )
            stack.wait_until_done()
    (producers,) = sent.get_finished_spans()
    context = producers.get_span_context()
    assert context is not None
    taken, called, written = collector.spans()
    assert [taken.name, called.name, written.name] == [
        "process embedq.docs",
        f"embeddings {MODEL}",
        "write docs",
    ]
    assert {span.trace_id.hex() for span in (taken, called, written)} == {f"{context.trace_id:032x}"}
    assert taken.parent_span_id.hex() == f"{context.span_id:016x}"
    assert called.parent_span_id == written.parent_span_id == taken.span_id
    assert all(link.span_id == taken.span_id for span in (called, written) for link in span.links)
    assert producers.start_time is not None
    assert producers.start_time < taken.start_time_unix_nano < called.start_time_unix_nano
    assert called.end_time_unix_nano <= written.start_time_unix_nano
    assert written.end_time_unix_nano <= taken.end_time_unix_nano
    assert [taken.kind, called.kind] == [Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_CLIENT]
    said = attributes_of(taken)
    assert (said["embedq.items"], said["embedq.stored"]) == (3, 3)
    assert attributes_of(called)["embedq.texts"] == attributes_of(written)["db.operation.batch.size"] == 3
    assert dict(producers.attributes or {})["embedq.items"] == 3
    assert not any(TEXT.encode() in body for body in collector.bodies)
    assert TEXT not in producers.to_json()


def test_a_failing_call_is_told_by_its_codes(stack: Stack) -> None:
    """And a header that is none begins a trace of its own; a query is traced likewise."""
    stack.create("docs")
    stack.api.inject(faults.Status(status=500, message=TEXT), next_calls=1)
    job = {"v": 1, "collection": "docs", "items": [{"id": "1", "text": TEXT}]}
    with Collector() as collector:
        stack.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with stack.worker(), stack.client() as client, stack.producer() as producer:
            client.send_task(
                "embedq.embed",
                kwargs={"job": job},
                queue="embedq.docs",
                ignore_result=True,
                headers={"traceparent": f"00-{TEXT}"},
            )
            stack.wait_until_done()
            producer.embed_query("docs", TEXT)
        spans = collector.spans()
    assert [span.name for span in spans] == [
        "process embedq.docs",
        f"embeddings {MODEL}",
        f"embeddings {MODEL}",
        "write docs",
        "process embedq.docs.query",
        f"embeddings {MODEL}",
    ]
    assert not spans[0].parent_span_id
    assert not spans[4].parent_span_id
    failed = attributes_of(spans[1])
    assert (failed["error.type"], failed["http.response.status_code"]) == ("Transient", 500)
    assert not any(TEXT.encode() in body for body in collector.bodies)


def test_a_collector_that_is_away_slows_nothing(stack: Stack) -> None:
    """Rows are written as ever, it is said once, and the worker stops in time."""
    stack.create("docs")
    stack.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    stack.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    stack.environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(number), "text": f"{number}"} for number in range(300)])
        stack.wait_until_done()
        wait_until(lambda: "event=spans_lost" in worker.output, 20)
        producer.enqueue("docs", id="more", text="more")
        stack.wait_until_done()
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 8
    assert len(stack.stored("docs")) == 301
    assert worker.output.count("WARNING") == 1
