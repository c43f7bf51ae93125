"""The outbox without one of its safeguards: changes of a running worker (``tests.support.changed``)."""

from __future__ import annotations

from typing import Any

from tests.chaos.saboteur import replace


def epoch() -> None:
    """Whatever Redis holds, it is taken for the Redis that the outbox was sent to."""
    from embedq_worker.engine.outbox import relay

    class Same(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    replace(relay, "epoch_in", lambda _: Same())


def settling() -> None:
    """A row is gone once it is sent, and not only with the transaction that stores its item."""
    from embedq_worker.store.outbox.unsettled import Claimed

    async def remove(self: Any, numbers: Any, epoch: int) -> None:  # noqa: ARG001 - as it is called
        await self._run("remove_from_outbox", {"numbers": numbers})

    replace(Claimed, "mark_sent", remove)


SAFEGUARDS = [each.__name__ for each in (epoch, settling)]
