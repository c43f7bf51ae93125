"""The worker's own Redis transport: kombu's, but messages are fetched atomically.

Stock kombu pops a message with BRPOP and records it as unacknowledged in a second round trip; a worker
killed in between loses it. Here one script (``fetch.lua``) does both, for many messages at once, and
confirms acknowledgements on the way. Producers, their wire format, LLEN and Flower see no difference.

Leaned on, all of kombu 5.7, held by ``tests/integration/test_kombu_contract.py``: of ``Channel``
``_brpop_start``, ``_brpop_read``, ``_in_poll``, ``_brpop_sent_at``, ``_flush_brpop_reauth``,
``active_queues``; of ``QoS`` ``can_consume``, ``append``, ``ack``, ``reject``, ``restore_visible``,
``restore_unacked_once``; of ``Transport`` ``_deliver``, ``_callbacks``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from math import inf
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from embedq.contract import WAKE_KEY
from embedq_worker import names
from embedq_worker.intake import envelope
from embedq_worker.intake.desk import DESK
from embedq_worker.intake.fetches import Catch, Fetches
from embedq_worker.intake.hands import Fetched, Hands
from embedq_worker.intake.in_hand import age
from embedq_worker.intake.qos import QoS
from embedq_worker.intake.quarantine import Quarantine
from embedq_worker.intake.scripts import FETCH
from embedq_worker.logs import get_logger

logger = get_logger(__name__)

IDLE_WAIT = 0.05
"""Seconds that an idle worker sleeps in the server between two looks at its queues."""
REFUSED_WAIT = 1.0
"""Seconds until a server that refused a command is asked again."""
RECONCILE_EVERY = 30.0
"""Seconds between two looks whether Redis records more in this process's name than it holds."""


class Channel(kombu_redis.Channel):
    """A channel that polls with the fetch script, and sleeps in the server after an empty fetch."""

    QoS = QoS
    Message = envelope.Message
    unacked_key = names.UNACKED
    unacked_index_key = names.INDEX
    unacked_mutex_key = "embedq:unacked_mutex"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asleep = False
        self._popping = False
        self._unacknowledged: set[str] = set()
        self._script_missing = True
        self._has_fetched = False
        self._reconciled_at = -inf
        self._refused_at = -inf
        self._is_refusing = False
        self._is_elsewhere = False
        super().__init__(*args, **kwargs)

    @property
    def takes_replies(self) -> bool:
        """Whether all it consumes needs no acknowledgement: replies to `celery inspect` and the like."""
        return self._unacknowledged.issuperset(self.active_queues)

    @property
    def is_refused(self) -> bool:
        """Whether the server has just refused a command: it is asked again in a moment."""
        return monotonic() < self._refused_at + REFUSED_WAIT

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume from a queue, and remember whether its messages are acknowledged."""
        (self._unacknowledged.add if no_ack else self._unacknowledged.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    @cached_property
    def hands(self) -> Hands:
        """What else there is to say to Redis of messages in hand.

        Over a client that adds no prefix of its own: kombu's prefixes only the first key of a script.
        """
        return Hands(redis.Redis(connection_pool=self.pool), self.global_keyprefix)

    @cached_property
    def fetches(self) -> Fetches:
        """What each fetch asks for, and what its reply brought."""
        return Fetches(self.hands, self.global_keyprefix, self.sep)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the next command: a fetch, or after an empty one a sleep that a producer's token ends."""
        if not self.active_queues:
            return
        self._popping = self.takes_replies
        if self._popping:  # nothing to record, nobody would acknowledge it: kombu's own way will do
            super()._brpop_start(timeout)
            return
        if self._is_elsewhere:
            self._leave_old_server()
            return  # the next poll connects
        connection = self.client.connection
        try:
            command = self._sleep_command() if self._asleep else self._fetch_command()
        except ResponseError as error:
            self._note_refusal(error)
            return
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command(*command)

    def _sleep_command(self) -> list[object]:
        return ["BLPOP", self._key(WAKE_KEY), IDLE_WAIT]

    def _fetch_command(self) -> list[object]:
        self._settle_hands()
        self._has_fetched = True
        if self._script_missing:
            redis.Redis(connection_pool=self.pool).script_load(FETCH.text)
            self._script_missing = False
        return self.fetches.command(self.active_queues)

    def _settle_hands(self) -> None:
        """Before a fetch: give back what is to go back, and what a fetch brought whose answer was lost."""
        self.hands.give_back(DESK.in_hand.returning)
        if monotonic() - self._reconciled_at > RECONCILE_EVERY:  # at once on a new connection
            self.hands.reconcile()
            self._reconciled_at = monotonic()

    def _brpop_read(self, **options: Any) -> bool:
        """Read the reply: deliver what was fetched, raise ``Empty`` when nothing was."""
        if self._popping:
            return bool(super()._brpop_read(**options))
        try:
            return self._read_sleep(options) if self._asleep else self._read_fetch(options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _read_sleep(self, options: dict[str, Any]) -> bool:
        self._asleep = False
        try:
            self._parse("BLPOP", options)
        except ResponseError as error:
            self._note_refusal(error)
        raise Empty

    def _read_fetch(self, options: dict[str, Any]) -> bool:
        try:
            reply = self._parse("EVALSHA", options)
        except NoScriptError:  # the server was restarted, its scripts were flushed, or it is another one
            self._script_missing = True
            self._is_elsewhere = True
            raise Empty from None
        except ResponseError as error:
            self._note_refusal(error)
            raise Empty from None
        self._is_refusing = False
        catch = self.fetches.read(reply)
        self._deliver_all(catch.messages)
        if not catch.is_leased:
            DESK.hurry()
        elif not DESK.governor.stopped:
            self._look_after_the_dead(catch)
        if not catch.messages:
            self._asleep = True
            raise Empty
        return True

    def _parse(self, command: str, options: dict[str, Any]) -> Any:
        connection = self.client.connection
        try:
            return self.client.parse_response(connection, command, **options)
        except self.connection_errors:
            connection.disconnect()
            raise

    def _look_after_the_dead(self, catch: Catch) -> None:
        quarantine = Quarantine(self.hands, self._deliver_all)
        queues = list(self.active_queues)
        is_idle = not catch.messages and DESK.in_hand.is_empty
        try:
            quarantine.look(queues, suspects=catch.suspects, killers=catch.killers, is_idle=is_idle)
        except ResponseError as error:
            self._note_refusal(error)

    def _note_refusal(self, error: ResponseError) -> None:
        """Loading, read-only, a full disk or memory: the server is asked again until it has got over it."""
        if not self._is_refusing:
            sentence = "Redis refuses to hand out messages, trying again each second: {reason}"
            logger.warning("fetch_refused", sentence, reason=str(error))
        self._is_refusing = True
        self._refused_at = monotonic()
        self._is_elsewhere |= isinstance(error, ReadOnlyError)

    def _leave_old_server(self) -> None:
        """Have all connections made anew.

        After a failover the address leads to the new master, but what is open stays with the old one until
        somebody closes it: some to this one, some to that one would never get a script to where it runs.
        """
        self._is_elsewhere = False
        self._reconciled_at = -inf  # what the old one has heard of last, the new one may not know
        for channel in self.connection.channels:
            for pool in (channel._pool, channel._async_pool):
                if pool is not None:
                    pool.disconnect()

    def _deliver_all(self, fetched: Sequence[Fetched]) -> None:
        """Take every fetched message in hand before the first is delivered, so that an error strands none."""
        for queue, tag, message in fetched:
            DESK.in_hand.take(tag, queue, len(message))
        left = deque(fetched)
        try:
            while left:
                self._deliver_one(*left[0])
                left.popleft()
        finally:
            for _, tag, _ in left:
                DESK.in_hand.give_back(tag)

    def _deliver_one(self, queue: str, tag: str, message: bytes) -> None:
        if queue not in self.connection._callbacks:  # it was let go while the fetch was on its way
            DESK.in_hand.give_back(tag)
            return
        try:
            self.connection._deliver(envelope.open_envelope(message, tag, queue), queue)
        except Exception:  # the consumer catches what a job can cause: kombu cannot build this message
            self.connection._deliver(envelope.unreadable(message, tag, queue), queue)

    def close(self) -> None:
        """Close; the channel that fetches hands everything over first when the worker is stopping."""
        if not self.closed and self._has_fetched and DESK.governor.stopped:
            try:
                self._hand_over()
            except (*self.connection_errors, ResponseError) as error:
                logger.warning(
                    "not_handed_over",
                    "Redis did not take back {messages} messages in hand ({error}), another worker takes "
                    "them over later",
                    messages=len(DESK.in_hand),
                    error=type(error).__name__,
                )
        super().close()

    def _hand_over(self) -> None:
        if self._in_poll:
            with suppress(Empty):
                self._brpop_read()
        hands = self.hands
        hands.acknowledge()
        hands.give_back(sorted(DESK.in_hand, key=age))
        hands.reconcile()
        hands.leave()

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"


class Transport(kombu_redis.Transport):
    """Named in ``broker_transport`` of the worker's application."""

    Channel = Channel


__all__ = ["Channel", "Transport"]
