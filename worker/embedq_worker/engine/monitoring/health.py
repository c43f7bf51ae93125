"""The health of a worker process: whether it turns, and whether it can work."""

from __future__ import annotations

from collections.abc import Callable

from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.store.postgres.outage import Outage


class Health:
    """What the probes are told: nothing, or what is wrong, in words for people.

    ``patience``: seconds of silence that are no illness. ``hub`` is the pulse of Celery's thread, ``redis``
    that of Redis as the engine hears it. The engine has none: where its loop stands still, nobody answers.
    ``has_begun``: whether the collections were read.
    """

    def __init__(
        self,
        *,
        patience: float,
        hub: Pulse,
        redis: Pulse,
        outage: Outage,
        has_begun: Callable[[], bool] = lambda: True,
    ) -> None:
        self._has_begun = has_begun
        self._patience = patience
        self._hub = hub
        self._redis = redis
        self._outage = outage
        self.is_draining = False

    def outages(self) -> dict[str, bool]:
        """Whether each server is away: Redis as soon as it does not answer once."""
        return {"postgres": self._outage.reason is not None, "redis": not self._redis.steady}

    def not_live(self) -> list[str]:
        """Why the process should be replaced. What its servers do is no reason."""
        # While Redis is away the hub waits for it, by design; once it is back the hub has to turn again.
        still = min(self._hub.silence, self._redis.steady)
        if self.is_draining or still <= self._patience:
            return []
        return [f"the hub thread has stood still for {still:.0f} s, nothing is fetched; restart the worker"]

    def not_ready(self) -> list[str]:
        """Why it cannot work now."""
        reasons = self.not_live()
        if self.is_draining:
            reasons.append("the worker is draining: it was told to stop")
        if self._redis.silence > self._patience:
            silence = f"{self._redis.silence:.0f} s"
            reasons.append(f"Redis has not answered for {silence}; look whether it runs and is reachable")
        if self._outage.reason is not None:
            reasons.append(self._outage.reason)
        if not reasons and not self._has_begun():
            reasons.append("the worker is starting: it has not read the collections yet")
        return reasons
