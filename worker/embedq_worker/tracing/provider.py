"""Where spans go: to the OTLP endpoint of OpenTelemetry's own variables, from a thread of the SDK's."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embedq_worker.logs import get_logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SERVICE = "embedq-worker"


def provider_of(environ: Mapping[str, str] = os.environ) -> TracerProvider | None:
    """What sends spans as the ``OTEL_…`` variables say; None where they name no endpoint, or say not to.

    What it has not sent when its queue is full is dropped: the worker never waits for it.
    """
    if not any(environ.get(name) for name in _ENDPOINTS) or _is_off(environ):
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        logger.warning("tracing_not_installed", "nothing is traced; pip install 'embedq[worker,otel]'")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # each failed attempt; we say it once
    facts = {SERVICE_VERSION: version("embedq")}
    is_named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not (is_named or environ.get("OTEL_SERVICE_NAME")):
        facts[SERVICE_NAME] = _SERVICE
    provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_telling(OTLPSpanExporter())))
    return provider


def _is_off(environ: Mapping[str, str]) -> bool:
    return (
        environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    )


def _telling(exporter: SpanExporter) -> SpanExporter:
    """An exporter that says once that its spans get lost, and once that they do no more."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Telling(SpanExporter):
        def __init__(self) -> None:
            self._is_away = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            is_away = result is not SpanExportResult.SUCCESS
            if is_away and not self._is_away:
                sentence = "spans are lost: look whether what OTEL_EXPORTER_OTLP_ENDPOINT names runs"
                logger.warning("spans_lost", sentence)
            elif self._is_away and not is_away:
                logger.warning("spans_sent", "spans are sent again")
            self._is_away = is_away
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Telling()
