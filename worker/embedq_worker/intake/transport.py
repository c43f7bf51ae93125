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

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from redis.exceptions import NoScriptError, ResponseError

from embedq.contract import WAKE_KEY
from embedq_worker.intake import envelope
from embedq_worker.intake.desk import DESK
from embedq_worker.intake.scripts import FETCH, GIVE_BACK, RENEW, SWEEP

logger = logging.getLogger(__name__)

FETCH_BYTES = 2 << 20
"""A fetch ends here.

50 messages of 1.4 MB in one script blocked the server, and the limiter with it, for 371 ms.
"""
FETCH_MESSAGES = 256
"""Messages of one queue in one fetch: more would hold the hub, and with it the completions, too long."""
ACKNOWLEDGEMENTS = 2000
"""Acknowledgements confirmed by one fetch at most."""
IDLE_WAIT = 0.05
"""Seconds that an idle worker sleeps in the server between two looks at its queues."""
RENEW_EVERY = 30.0
"""Seconds between renewals of what is in hand."""
ABANDONED_AFTER = 180
"""Seconds after its last renewal at which a record is put back into its queue: several renewals."""
PRIORITIES = (3, 6, 9)
"""Where stock clients put messages of a priority above 0: lists of their own, looked at once in a while."""
PRIORITIES_EVERY = 20
"""Fetches between two looks at them."""


class QoS(kombu_redis.QoS):
    """Room is the governor's to give, and what is in hand stays in hand when a connection goes."""

    def can_consume(self) -> bool:
        """Whether to poll: always for control messages and pending replies, else while a queue has room."""
        channel = self.channel
        queues = channel.active_queues
        if not queues or channel._in_poll or channel.takes_replies:
            return True
        return DESK.governor.has_room(queues)

    def append(self, message: object, delivery_tag: str) -> None:
        """The fetch has recorded the message already, in Redis and in hand."""

    def ack(self, delivery_tag: str) -> None:
        """Done with the message; the next fetch says so to Redis."""
        DESK.in_hand.settle(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give the message back to its queue, or be done with it."""
        if requeue:
            self.channel.give_back([delivery_tag])
        else:
            DESK.in_hand.settle(delivery_tag)

    def restore_visible(self, *args: object, **kwargs: object) -> None:
        """Put back what dead workers held; kombu's own sweep parses it, logs what it cannot, and drops it."""
        self.channel.sweep()

    def restore_unacked_once(self, stderr: object = None) -> None:
        """Nothing to restore with a channel.

        ``Channel.close`` gives back what is in hand when the worker stops.
        """
        self._on_collect.cancel()


class Channel(kombu_redis.Channel):
    """A channel that polls with the fetch script, and sleeps in the server after an empty fetch."""

    QoS = QoS
    Message = envelope.Message
    unacked_key = "embedq:unacked"
    unacked_index_key = "embedq:unacked_index"
    unacked_mutex_key = "embedq:unacked_mutex"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asleep = False
        self._popping = False
        self._unacknowledged: set[str] = set()
        self._script_missing = True
        self._has_fetched = False
        self._fetches = 0
        self._fetch_queues: list[str] = []
        self._fetch_acknowledged: list[str] = []
        self._renewed_at = monotonic()
        super().__init__(*args, **kwargs)

    @property
    def takes_replies(self) -> bool:
        """Whether all it consumes needs no acknowledgement: replies to `celery inspect` and the like."""
        return self._unacknowledged.issuperset(self.active_queues)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume from a queue, and remember whether its messages are acknowledged."""
        (self._unacknowledged.add if no_ack else self._unacknowledged.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the next command: a fetch, or after an empty one a sleep that a producer's token ends."""
        if not self.active_queues:
            return
        self._popping = self.takes_replies
        if self._popping:  # nothing to record, nobody would acknowledge it: kombu's own way will do
            super()._brpop_start(timeout)
            return
        connection = self.client.connection
        command = self._sleep_command() if self._asleep else self._fetch_command()
        if command is None:
            return
        self._has_fetched = True
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command(*command)

    def _sleep_command(self) -> list[object]:
        return ["BLPOP", self._key(WAKE_KEY), IDLE_WAIT]

    def _fetch_command(self) -> list[object] | None:
        rooms = DESK.governor.next_fetch(self.active_queues)
        if not rooms:
            return None
        self._renew_when_due()
        if self._script_missing:
            self._plain_client().script_load(FETCH.text)
            self._script_missing = False
        rooms = self._with_priorities(rooms)
        self._fetch_queues = [queue.partition(self.sep)[0] for queue, _ in rooms]
        self._fetch_acknowledged = DESK.in_hand.unconfirmed(ACKNOWLEDGEMENTS)
        keys, arguments = self._fetch_arguments(rooms)
        return ["EVALSHA", FETCH.digest, len(keys), *keys, *arguments]

    def _fetch_arguments(self, rooms: Sequence[tuple[str, int]]) -> tuple[list[str], list[object]]:
        keys = [self._key(self.unacked_key), self._key(self.unacked_index_key)]
        acknowledged = self._fetch_acknowledged
        arguments: list[object] = [uuid.uuid4().hex, FETCH_BYTES, len(acknowledged), *acknowledged]
        for queue, room in rooms:
            keys.append(self._key(queue))
            arguments += (queue.partition(self.sep)[0], min(room, FETCH_MESSAGES))
        return keys, arguments

    def _with_priorities(self, rooms: list[tuple[str, int]]) -> list[tuple[str, int]]:
        self._fetches += 1
        if self._fetches % PRIORITIES_EVERY:
            return rooms
        return rooms + [(f"{queue}{self.sep}{step}", 1) for queue, _ in rooms for step in PRIORITIES]

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
        self._parse("BLPOP", options)
        self._asleep = False
        raise Empty

    def _read_fetch(self, options: dict[str, Any]) -> bool:
        try:
            reply = self._parse("EVALSHA", options)
        except NoScriptError:  # the server was restarted or its scripts were flushed
            self._script_missing = True
            raise Empty from None
        except ResponseError as error:  # loading, read-only, out of memory: wait for it in the server
            logger.warning("Redis refused to fetch messages, trying again: %s", error)
            self._asleep = True
            raise Empty from None
        DESK.in_hand.confirm(self._fetch_acknowledged)
        if not reply:
            self._asleep = True
            raise Empty
        self._deliver_all(reply)
        return True

    def _parse(self, command: str, options: dict[str, Any]) -> Any:
        connection = self.client.connection
        try:
            return self.client.parse_response(connection, command, **options)
        except self.connection_errors:
            connection.disconnect()  # the next tick reconnects
            raise

    def _deliver_all(self, reply: list[Any]) -> None:
        """Take every fetched message in hand before the first is delivered, so that an error strands none."""
        fetched = [
            (self._fetch_queues[reply[at] - 1], reply[at + 1].decode(), reply[at + 2])
            for at in range(0, len(reply), 3)
        ]
        for queue, tag, message in fetched:
            DESK.in_hand.take(tag, queue, len(message))
        callbacks = self.connection._callbacks
        strangers = [tag for queue, tag, _ in fetched if queue not in callbacks]
        if strangers:  # the queue was let go while the fetch was on its way
            self.give_back(strangers)
        for queue, tag, message in fetched:
            if queue in callbacks:
                self._deliver_one(queue, tag, message)

    def _deliver_one(self, queue: str, tag: str, message: bytes) -> None:
        try:
            self.connection._deliver(envelope.open_envelope(message, tag, queue), queue)
        except self.connection_errors:
            raise
        except (
            Exception
        ):  # the consumer catches what a job can cause: this is no message that kombu can build
            self.connection._deliver(envelope.unreadable(message, tag, queue), queue)

    def give_back(self, tags: Sequence[str]) -> None:
        """Put messages in hand back at the front of their queues, the oldest to be fetched first."""
        in_hand = DESK.in_hand
        young_first = [tag for tag in reversed(tags) if tag in in_hand]
        if not young_first:
            return
        queues = [in_hand.queue_of(tag) for tag in young_first]
        keys = [self._key(self.unacked_key), self._key(self.unacked_index_key), *map(self._key, queues)]
        pairs = [part for pair in zip(young_first, queues, strict=True) for part in pair]
        GIVE_BACK.run(self._plain_client(), keys, pairs)
        in_hand.let_go(young_first)

    def flush_acknowledgements(self) -> None:
        """Confirm every acknowledgement now, without fetching."""
        while acknowledged := DESK.in_hand.unconfirmed(ACKNOWLEDGEMENTS):
            self._fetch_acknowledged = acknowledged
            keys, arguments = self._fetch_arguments(())
            FETCH.run(self._plain_client(), keys, [str(argument) for argument in arguments])
            DESK.in_hand.confirm(acknowledged)

    def close(self) -> None:
        """Close; the channel that fetches hands everything over first when the worker is stopping."""
        if not self.closed and self._has_fetched and DESK.governor.stopped:
            try:
                self._hand_over()
            except (*self.connection_errors, ResponseError) as error:
                logger.warning("Redis did not take back %d messages in hand: %s", len(DESK.in_hand), error)
        super().close()

    def _hand_over(self) -> None:
        if self._in_poll:
            with suppress(Empty):
                self._brpop_read()
        self.flush_acknowledgements()
        self.give_back(list(DESK.in_hand))

    def _renew_when_due(self) -> None:
        if monotonic() - self._renewed_at < RENEW_EVERY:
            return
        self._renewed_at = monotonic()
        tags = list(DESK.in_hand)
        with suppress(ResponseError):  # a server that refuses now is asked again later
            for start in range(0, len(tags), 1000):
                RENEW.run(
                    self._plain_client(), [self._key(self.unacked_index_key)], tags[start : start + 1000]
                )

    def sweep(self) -> None:
        """Put records that nobody renews back into their queues."""
        keys = [self._key(self.unacked_key), self._key(self.unacked_index_key)]
        try:
            swept = SWEEP.run(self._plain_client(), keys, [str(ABANDONED_AFTER), self.global_keyprefix])
        except ResponseError as error:
            logger.warning("Redis refused to sweep, trying again: %s", error)
        else:
            if swept:
                logger.warning("%s messages that a dead worker held are queued again", swept)

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _plain_client(self) -> redis.Redis:
        """A client that adds no prefix of its own: kombu's prefixes only the first key of a script."""
        return redis.Redis(connection_pool=self.pool)


class Transport(kombu_redis.Transport):
    """Named in ``broker_transport`` of the worker's application."""

    Channel = Channel


__all__ = ["Channel", "QoS", "Transport"]
