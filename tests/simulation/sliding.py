"""What passed in any minute, counted exactly."""

from __future__ import annotations

from collections import deque


class SlidingMinute:
    """Requests and tokens within the last minute, and the most there ever were. Times must not go back."""

    def __init__(self, minute: float = 60.0) -> None:
        self.requests = self.tokens = 0
        self.busiest_requests = self.busiest_tokens = 0
        self._minute = minute
        self._calls: deque[tuple[float, int]] = deque()

    def slide(self, now: float) -> None:
        """Forget what is a minute old."""
        while self._calls and self._calls[0][0] <= now - self._minute:
            _, tokens = self._calls.popleft()
            self.requests -= 1
            self.tokens -= tokens

    def add(self, now: float, tokens: int) -> None:
        """One request more."""
        self.slide(now)
        self._calls.append((now, tokens))
        self.requests += 1
        self.tokens += tokens
        self.busiest_requests = max(self.busiest_requests, self.requests)
        self.busiest_tokens = max(self.busiest_tokens, self.tokens)

    def until_room(self, now: float, requests: int | None, tokens: int | None, more: int) -> float:
        """Seconds until one request more, with ``more`` tokens, is within the limits; 0: now."""
        self.slide(now)
        if self._fits(self.requests, self.tokens, requests, tokens, more):
            return 0.0
        left_requests, left_tokens = self.requests, self.tokens
        for at, used in self._calls:
            left_requests, left_tokens = left_requests - 1, left_tokens - used
            if self._fits(left_requests, left_tokens, requests, tokens, more):
                return at + self._minute - now
        return self._minute

    @staticmethod
    def _fits(used: int, used_tokens: int, requests: int | None, tokens: int | None, more: int) -> bool:
        return (requests is None or used < requests) and (tokens is None or used_tokens + more <= tokens)
