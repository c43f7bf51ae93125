"""The page of ``/metrics``: the text format, or OpenMetrics where the reader accepts it."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from embedq_worker.metrics.registry import REGISTRY


def page(accept: str) -> tuple[bytes, str]:
    """The page and its content type, by the reader's Accept header."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type
