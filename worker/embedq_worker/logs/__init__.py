"""What the worker says of itself: events with fields, each with a sentence for a person.

``get_logger`` is what the worker's modules use; ``logs.setup`` gives every log of a process one form.
"""

from __future__ import annotations

from embedq_worker.logs.logger import Field, Logger, failure, get_logger

__all__ = ["Field", "Logger", "failure", "get_logger"]
