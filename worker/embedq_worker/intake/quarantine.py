"""What a process does for the dead: it buries killers, and runs suspects when it is its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from embedq_worker.intake.desk import DESK
from embedq_worker.intake.hands import Fetched, Hands
from embedq_worker.intake.isolation import Step
from embedq_worker.metrics.rescue import SUSPECTS_RUN


class Quarantine:
    """``deliver`` takes messages in hand and to the consumer. Raises the client's errors."""

    def __init__(self, hands: Hands, deliver: Callable[[Sequence[Fetched]], None]) -> None:
        self._hands = hands
        self._deliver = deliver

    def look(self, queues: Sequence[str], *, suspects: int, killers: int, is_idle: bool) -> None:
        """A fetch told how many groups of suspects and killers there are; ``queues`` are served here.

        A killer is never buried while suspects run: one of these that kills would have it buried again, as it
        was not acknowledged.
        """
        if killers and not DESK.isolation.is_on:
            self._bury()
        elif suspects and DESK.isolation.may_begin(monotonic()):
            self._claim(queues, is_idle=is_idle)
        self._take_step(queues)

    def _bury(self) -> None:
        for killer in self._hands.take_killer():
            DESK.in_hand.take(killer.tag, killer.queue, len(killer.message))
            DESK.bury_killer(killer.tag, killer.queue, killer.message)

    def _claim(self, queues: Sequence[str], *, is_idle: bool) -> None:
        if self._hands.claim_suspects(DESK.isolation.runnable(queues, monotonic()), is_idle=is_idle):
            DESK.isolation.begin(monotonic())
            DESK.release()
        else:
            DESK.isolation.denied(monotonic())

    def _take_step(self, queues: Sequence[str]) -> None:
        is_held = all(DESK.is_held(queue) for queue in DESK.in_hand.loads)
        step = DESK.isolation.step(monotonic(), DESK.in_hand.is_empty, is_held=is_held)
        if step is Step.RETURN:
            DESK.isolation.rest(filter(DESK.is_held, queues), monotonic())
            DESK.release()
        elif step is Step.LEAVE:
            self._hands.end_claim()
            DESK.isolation.end(monotonic())
        elif step is Step.TAKE:
            self._take_group(queues)

    def _take_group(self, queues: Sequence[str]) -> None:
        group = self._hands.take_suspects(DESK.isolation.runnable(queues, monotonic()))
        if group:
            DESK.isolation.taken(monotonic())
            SUSPECTS_RUN.inc(len(group))
            self._deliver(group)
        else:
            DESK.isolation.end(monotonic())
