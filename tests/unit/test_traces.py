"""How spans hang together: parents, links both ways, and what is not traced."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from embedq.tracing import sending
from embedq_worker.errors import Transient
from embedq_worker.tracing import Spans, Traces, end_message
from embedq_worker.tracing.provider import provider_of
from embedq_worker.tracing.traces import MOST_LINKS

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"


class Bed:
    """Traces whose spans are kept."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.traces = Traces()
        self.traces.open(self.provider)

    def message(self, traceparent: object = PARENT) -> Spans:
        """Begin a message's span."""
        return self.traces.message({"traceparent": traceparent}, "embedq.docs", "id", 0.0)

    def ended(self) -> list[ReadableSpan]:
        """The spans that have ended, in their order."""
        return list(self.kept.get_finished_spans())


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Open traces."""
    bed = Bed()
    yield bed
    bed.traces.close()


def test_a_call_for_many_messages_is_linked_with_each(bed: Bed) -> None:
    """It is a child of the first; the others lead to it."""
    first, second = bed.message(), bed.message()
    with bed.traces.call("m", 3, [*first, *second, *first]):
        pass
    for spans in (first, second):
        end_message(spans, {"items": 1, "stored": 1})
    call, one, other = bed.ended()
    assert call.parent == one.get_span_context()
    assert [link.context for link in call.links] == [one.get_span_context(), other.get_span_context()]
    assert (list(one.links), [link.context for link in other.links]) == ([], [call.get_span_context()])
    assert dict(other.attributes or {})["embedq.stored"] == 1
    assert dict(call.attributes or {})["embedq.messages"] == 2


def test_links_have_an_end(bed: Bed) -> None:
    """A transaction may hold rows of hundreds of messages."""
    spans = [span for _ in range(MOST_LINKS + 5) for span in bed.message()]
    with bed.traces.write("docs", 1, spans):
        pass
    (written,) = bed.ended()
    assert len(written.links) == MOST_LINKS
    assert dict(written.attributes or {})["embedq.messages"] == MOST_LINKS + 5


def test_the_producer_decides(bed: Bed) -> None:
    """What it does not sample has no span here, nor a call of its own."""
    spans = bed.message(UNSAMPLED)
    with bed.traces.call("m", 1, spans):
        pass
    assert (spans, bed.ended()) == ((), [])


@pytest.mark.parametrize("said", [None, 7, [], "", "00-short-1-01", "ff" + PARENT[2:], PARENT + "-x", "\x00"])
def test_a_header_that_is_none_is_ignored(bed: Bed, said: object) -> None:
    """The message begins a trace of its own."""
    end_message(bed.message(said), {})
    (span,) = bed.ended()
    assert span.parent is None
    assert TRACE not in span.to_json()


def test_a_failure_is_told_by_type_and_codes(bed: Bed) -> None:
    """Not by what it says."""
    spans = bed.message()
    with pytest.raises(Transient), bed.traces.call("m", 1, spans):
        raise Transient(503, "overloaded")
    with pytest.raises(ValueError, match="a text"), bed.traces.write("docs", 1, spans):
        raise ValueError("a text")
    called, written = bed.ended()
    attributes = dict(called.attributes or {})
    assert attributes["error.type"] == "Transient"
    assert (attributes["http.response.status_code"], attributes["embedq.code"]) == (503, "overloaded")
    assert "a text" not in written.to_json()
    assert not called.status.is_ok


def test_closed_traces_are_off() -> None:
    """And so they are before they are opened."""
    traces = Traces()
    assert not traces.is_on
    assert traces.message({"traceparent": PARENT}, "embedq.docs", "id", 0.0) == ()
    with traces.call("m", 1, ()), traces.write("docs", 1, ()):
        pass


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_unless_an_endpoint_is_named(environ: dict[str, str]) -> None:
    """By the standard variables."""
    assert provider_of(environ) is None


def test_the_package_is_not_needed() -> None:
    """Neither by a producer nor by the engine; an endpoint without it is told of."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import embedq_worker.engine.engine\n"
        "from embedq.tracing import sending\n"
        "from embedq_worker.tracing.provider import provider_of\n"
        "assert provider_of({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://c:4318'}) is None\n"
        "with sending('docs', 'embedq.docs') as sent:\n"
        "    assert sent.traceparent is None\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "pip install 'embedq[worker,otel]'" in done.stderr


def test_a_producer_of_an_application_that_does_not_trace_makes_no_span() -> None:
    """The package alone costs nothing: redis-py imports it where it is installed."""
    assert "opentelemetry.trace" in sys.modules
    with sending("docs", "embedq.docs") as first, sending("docs", "embedq.docs") as second:
        assert first is second
        assert first.traceparent is None
