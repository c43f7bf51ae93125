"""What ``Producer`` and ``AsyncProducer`` are made with."""

from __future__ import annotations

import os

from embedq.address import Address
from embedq.core import ProducerCore
from embedq.errors import ConfigurationError
from embedq.outbox import OutboxMethods
from embedq.query_cache import QueryCache
from embedq.queue_limit import QueueLimit, WhenFull


class ProducerBase(OutboxMethods):
    """The settings of a producer, which both kinds take.

    ``broker_url`` is by default that of ``EMBEDQ_BROKER_URL``, ``key_prefix`` that of ``EMBEDQ_KEY_PREFIX``
    (the workers' ``global_keyprefix``; default none). ``source`` names the service in every job. With
    ``check=False`` the registry of collections is not asked, so that items can be enqueued before any
    worker ran.

    ``max_queue_length``: messages that a queue may hold, however many producers push to it (default: any
    number). Too low, and workers run out of work between two looks; too high, and Redis' memory is the limit.
    At a full queue ``when_full="raise"`` raises ``QueueFull``; ``"block"`` waits for room, looking about once
    a second, for ``full_timeout`` seconds at a stretch (default: as long as it takes), and raises it then.

    ``query_cache_size``: vectors of ``embed_query`` to keep (default: none), each for ``query_cache_seconds``
    (default 30). Where a collection moves to another model, the old one's may be given for so long.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        source: str | None = None,
        check: bool = True,
        max_queue_length: int | None = None,
        when_full: WhenFull = "raise",
        full_timeout: float | None = None,
        key_prefix: str | None = None,
        query_cache_size: int = 0,
        query_cache_seconds: float = 30.0,
    ) -> None:
        url = broker_url or os.environ.get("EMBEDQ_BROKER_URL")
        if not url:
            raise ConfigurationError(
                "no broker URL: set EMBEDQ_BROKER_URL, or give one, such as redis://localhost:6379/0"
            )
        prefix = os.environ.get("EMBEDQ_KEY_PREFIX", "") if key_prefix is None else key_prefix
        self._address, self._prefix = Address(url), prefix
        self.source = source
        limit = QueueLimit(max_queue_length, when_full, full_timeout)
        cache = QueryCache(query_cache_size, query_cache_seconds)
        self._core = ProducerCore(source, prefix, check=check, limit=limit, cache=cache)

        self._open(self._address)

    @property
    def broker(self) -> str:
        """Where it enqueues to: the broker's URL without what may be secret, and the prefix of its keys."""
        return f"{self._address.where} {self._prefix}".rstrip()

    def _open(self, address: Address) -> None:
        """Make the broker of this kind, which connects when it is first used."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address!r} source={self.source!r}>"
