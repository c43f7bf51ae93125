"""Each semi-private thing of kombu and Celery that the worker leans on is there and behaves as it did."""

from __future__ import annotations

import inspect

import pytest
from celery.concurrency.base import BasePool
from celery.worker import request as celery_request
from celery.worker.consumer import Consumer
from kombu.asynchronous.hub import Hub
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual


@pytest.mark.parametrize(
    "name",
    [
        "_brpop_start",
        "_brpop_read",
        "_flush_brpop_reauth",
        "active_queues",
        "pool",
        "close",
        "connection_errors",
    ],
)
def test_the_channel_has(name: str) -> None:
    """``Channel`` overrides or calls it."""
    assert hasattr(kombu_redis.Channel, name) or name in inspect.getsource(kombu_redis.Channel.__init__)


def test_the_poller_drives_the_channel_as_we_expect() -> None:
    """It starts a command only when none is under way, and reads through the channel's handlers."""
    assert "if not channel._in_poll" in inspect.getsource(kombu_redis.MultiChannelPoller._register_BRPOP)
    assert "chan.handlers[type]()" in inspect.getsource(kombu_redis.MultiChannelPoller.on_readable)
    assert "'BRPOP': self._brpop_read" in inspect.getsource(kombu_redis.Channel.__init__)
    assert "channel._brpop_sent_at" in inspect.getsource(
        kombu_redis.MultiChannelPoller.maybe_check_brpop_health
    )


def test_a_message_goes_from_the_transport_to_the_consumer() -> None:
    """``_deliver`` looks its callback up by queue; a channel's callback appends to its QoS first."""
    assert "self._callbacks[queue]" in inspect.getsource(virtual.Transport._deliver)
    assert "self.qos.append" in inspect.getsource(virtual.Channel.basic_consume)


def test_the_record_is_kombus() -> None:
    """What the fetch script writes is what kombu's sweep reads: message, exchange, routing key."""
    assert "dumps([message._raw, EX, RK])" in inspect.getsource(kombu_redis.QoS.append)
    assert "M, EX, RK = loads(" in inspect.getsource(kombu_redis.QoS.restore_by_tag)


@pytest.mark.parametrize(
    "name",
    [
        *("create_task_handler", "update_strategies", "on_unknown_message", "on_unknown_task"),
        *("on_invalid_task", "on_decode_error", "on_ready", "add_task_queue", "cancel_task_queue", "stop"),
    ],
)
def test_the_consumer_has(name: str) -> None:
    """``Consumer`` overrides or calls it."""
    assert callable(getattr(Consumer, name))


def test_the_pool_is_given_what_it_takes_apart() -> None:
    """A message's task, id, request, body and encodings, with callbacks to report to."""
    source = inspect.getsource(celery_request.create_request_cls)
    assert "args=(self.type, task_id, self.request_dict, self.body," in source
    for callback in ("accept_callback=self.on_accepted", "callback=self.on_success"):
        assert callback in source
    for name in ("on_start", "on_stop", "on_apply", "on_terminate", "register_with_event_loop", "_get_info"):
        assert callable(getattr(BasePool, name))


def test_the_hub_can_be_poked_from_another_thread() -> None:
    """``call_soon`` wakes the poller (kombu 5.7 is the first in which it does)."""
    assert "waker.wake()" in inspect.getsource(Hub.call_soon)


def test_a_request_that_is_rejected_is_ready_and_sends_no_second_rejection() -> None:
    """How a message that goes back leaves Celery's books: ``acknowledged`` is set, the event is ours."""
    failure = inspect.getsource(celery_request.Request.on_failure)
    assert failure.index("task_ready(self)") < failure.index("isinstance(exc, Reject)")
    assert "return self.reject(requeue=exc.requeue)" in failure
    assert "if not self.acknowledged" in inspect.getsource(celery_request.Request.reject)
    assert callable(celery_request.Request.send_event)
