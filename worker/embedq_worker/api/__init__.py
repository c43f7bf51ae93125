"""The edge to an OpenAI-compatible embeddings API: ask, read the answer, tell what a refusal means."""

from __future__ import annotations

from embedq_worker.api.allowance import Allowance, read_allowance
from embedq_worker.api.client import ApiClient
from embedq_worker.api.refusal import classify
from embedq_worker.api.request import Purpose, build_request
from embedq_worker.api.response import Answer, read_answer

__all__ = [
    "Allowance",
    "Answer",
    "ApiClient",
    "Purpose",
    "build_request",
    "classify",
    "read_allowance",
    "read_answer",
]
