"""What a service says is left of its limits."""

from __future__ import annotations

from typing import NamedTuple


class Allowance(NamedTuple):
    """Limits as a service told them along with one reply; None is what it did not tell, or told as nonsense.

    It is what the service knew when it answered: calls that were in flight then may or may not be counted,
    and some services repeat old counts. The window is not told: mostly a minute, but a day for Groq's
    requests, so that only a ``reset`` says how long a lack lasts.
    """

    limit_requests: int | None = None
    """Requests that a window holds; at least 1."""
    remaining_requests: int | None = None
    """Requests that are left now. 0 is only told along with ``requests_reset``."""
    requests_reset: float | None = None
    """Seconds until all requests of the window are to be had again; above 0, a day at most."""
    limit_tokens: int | None = None
    """Tokens that a window holds; at least 1."""
    remaining_tokens: int | None = None
    """Tokens that are left now. 0 is only told along with ``tokens_reset``."""
    tokens_reset: float | None = None
    """Seconds until all tokens of the window are to be had again; above 0, a day at most."""
