"""Traces: one from ``enqueue`` through the call of the API to the committed row. Off unless asked for.

The engine says what begins and ends to ``TRACES``; what is sent where is ``tracing.provider``'s. Nothing but
ids, names and counts goes into a span.
"""

from __future__ import annotations

from embedq_worker.tracing.traces import TRACES, Span, Spans, Traces, end_message

__all__ = ["TRACES", "Span", "Spans", "Traces", "end_message"]
