"""What kombu calls the quality of service of a channel: when it may fetch, and what becomes of a message."""

from __future__ import annotations

from kombu.transport import redis as kombu_redis

from embedq_worker.intake.desk import DESK


class QoS(kombu_redis.QoS):
    """Room is the governor's to give, and what is in hand stays in hand when a connection goes."""

    def can_consume(self) -> bool:
        """Whether to poll: always for control messages and pending replies, else while there is a reason."""
        channel = self.channel
        queues = channel.active_queues
        if not queues or channel._in_poll or channel.takes_replies:
            return True
        if channel.is_refused:
            return False
        return DESK.isolation.is_on or DESK.in_hand.has_news or DESK.governor.has_room(queues)

    def append(self, message: object, delivery_tag: str) -> None:
        """The fetch has recorded the message already, in Redis and in hand."""

    def ack(self, delivery_tag: str) -> None:
        """Done with the message; the next fetch says so to Redis."""
        DESK.in_hand.settle(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give the message back to its queue, or be done with it; the next fetch says so to Redis."""
        if requeue:
            DESK.in_hand.give_back(delivery_tag)
        else:
            DESK.in_hand.settle(delivery_tag)

    def restore_visible(self, *args: object, **kwargs: object) -> None:
        """The heartbeat takes over what dead workers held; kombu's own sweep parses it, and logs it."""

    def restore_unacked_once(self, stderr: object = None) -> None:
        """Nothing to restore with a channel.

        ``Channel.close`` gives back what is in hand when the worker stops.
        """
        self._on_collect.cancel()
