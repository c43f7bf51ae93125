"""The producer of a run: it enqueues what is planned, and knows what it was promised."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from embedq import Producer
from embedq.errors import BrokerUnavailable
from tests.chaos.checker import Asked, Write
from tests.chaos.history import History
from tests.chaos.load import Enqueue

_ATTEMPTS = 3
"""A call that raises is made again, up to so often: then its items are not promised, and may be there."""


class Producing:
    """Enqueues in a thread of its own, over a connection that nobody cuts, at ``rate`` items a second.

    ``outages`` counts the times that Redis went away: a producer that meets one pushes a message again
    without being told whether the first push arrived.
    """

    def __init__(
        self,
        broker_url: str,
        calls: Sequence[Enqueue],
        *,
        rate: float,
        history: History,
        outages: Callable[[], int],
    ) -> None:
        self._producer = Producer(broker_url, source="chaos")
        self._calls = calls
        self._rate = rate
        self._history = history
        self._outages = outages
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self.asked: dict[tuple[str, str, int], Asked] = {}
        self.pushes: Counter[str] = Counter()
        """How often each text may have been pushed."""
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether everything is enqueued."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Enqueue no more. Raises what the producer should not have raised."""
        self._ended.set()
        self._thread.join(30)
        self._producer.close()
        if self.error is not None:
            raise self.error

    def pushed_once(self) -> list[str]:
        """The texts that one message carries, and no other."""
        return [text for text, count in self.pushes.items() if count == 1]

    def _run(self) -> None:
        due = time.monotonic()
        try:
            for call in self._calls:
                if self._ended.wait(max(0.0, due - time.monotonic())):
                    return
                due = max(due, time.monotonic() - 1.0) + len(call.writes) / self._rate
                self._insist(call)
        except Exception as error:
            self.error = error

    def _insist(self, call: Enqueue) -> None:
        for _ in range(_ATTEMPTS):
            if self._enqueue(call) or self._ended.is_set():
                return

    def _enqueue(self, call: Enqueue) -> bool:
        """Whether it was promised."""
        began, outages, error = time.monotonic(), self._outages(), None
        self._note(call.writes, promised=False)
        try:
            self._producer.enqueue_many(call.collection, [_item(write) for write in call.writes], call.lane)
        except BrokerUnavailable as raised:
            error = type(raised).__name__
        else:
            self._note(call.writes, promised=True)
        if self._outages() != outages:
            self._count(call.writes)
        self._count(call.writes)
        self._history.note(
            "enqueue" if error is None else "enqueue raised",
            at=began,
            until=round(time.monotonic() - self._history.began, 4),
            collection=call.collection,
            lane=call.lane,
            items=[[write.id, write.version, _kind(write)] for write in call.writes],
        )
        return error is None

    def _note(self, writes: Sequence[Write], *, promised: bool) -> None:
        for write in writes:
            known = self.asked.get((*write.key, write.version))
            self.asked[*write.key, write.version] = Asked(
                write, promised or (known is not None and known.promised)
            )

    def _count(self, writes: Sequence[Write]) -> None:
        self.pushes.update(write.text for write in writes if write.text is not None)


def _item(write: Write) -> dict[str, object]:
    if write.text is None:
        return {"id": write.id, "version": write.version, "deleted": True}
    return {"id": write.id, "version": write.version, "text": write.text}


def _kind(write: Write) -> str:
    if write.text is None:
        return "delete"
    return "poison" if write.poison else "text"
