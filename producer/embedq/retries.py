"""When Redis fails: which errors may pass by themselves, for how long, and what the caller is told."""

from __future__ import annotations

import random
import time

from embedq.errors import BrokerUnavailable

RETRY_SECONDS = 3.0
"""How long lost or refused connections are tried again before ``BrokerUnavailable``."""
SOCKET_SECONDS = 5.0
"""How long one answer of Redis is waited for."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_REPLICA = "it is a replica; wait for the failover, or give the master's address in EMBEDQ_BROKER_URL"
_CLUSTER = "its cluster is incomplete, or moves keys"
_PASSING = {
    "BUSY": "somebody's script holds it up, which SCRIPT KILL may end",
    "CLUSTERDOWN": _CLUSTER,
    "LOADING": "it is still reading its data",
    "MASTERDOWN": _REPLICA,
    "NOREPLICAS": "too few replicas follow it; see its min-replicas-to-write",
    "READONLY": _REPLICA,
    "TRYAGAIN": _CLUSTER,
    "UNBLOCKED": _REPLICA,
}
"""Codes of refusals that may pass by themselves, with what is the matter. The command had no effect."""
_CODES = {
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""redis-py has a class for each of these in place of the code."""


class Attempts:
    """The attempts at a command that failed, for ``RETRY_SECONDS`` or until ``deadline`` (monotonic clock).

    ``where`` is the broker's place as it may be shown; ``begun`` is when the command was first tried: a Redis
    that was silent for so long is not asked again. Commands must bear to be run twice.
    """

    def __init__(self, where: str, begun: float, deadline: float | None = None) -> None:
        self._where = where
        own = begun + RETRY_SECONDS
        self._deadline = own if deadline is None else min(own, deadline)
        self._so_long = f"for {RETRY_SECONDS:g} s" if self._deadline == own else "in time"
        self._pause = _FIRST_PAUSE

    def pause(self, error: Exception) -> float:
        """Seconds until the next attempt, after ``error``; ``BrokerUnavailable`` where there is none."""
        if not _may_pass(error) or time.monotonic() + self._pause > self._deadline:
            raise self._unavailable(error) from _without_arguments(error)
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return random.uniform(pause / 2, pause)  # noqa: S311 # jitter, no secret

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        code = _code(error)
        if code in _PASSING:
            return BrokerUnavailable(
                f"Redis at {self._where} took no command {self._so_long} ({code}): {_PASSING[code]}; "
                "enqueueing it again is safe"
            )
        if _is_connection_loss(error):
            return BrokerUnavailable(
                f"Redis at {self._where} did not answer {self._so_long} ({_reason(error)}): "
                "start it, or check EMBEDQ_BROKER_URL; what was being enqueued may or may not have arrived, "
                "enqueueing it again is safe"
            )
        return BrokerUnavailable(
            f"Redis at {self._where} refused a command ({code}): check its memory and disk, this "
            "user's rights and the password in EMBEDQ_BROKER_URL"
        )


def foreign_errors() -> tuple[type[Exception], ...]:
    """What redis-py and the network raise; imported late, as redis-py is."""
    import redis

    return redis.RedisError, OSError


def is_demoted(error: Exception) -> bool:
    """Whether the server is a replica now: the address leads to the new master, what is open stays here."""
    return _PASSING.get(_code(error)) == _REPLICA


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help."""
    return _code(error) in _PASSING or _is_connection_loss(error)


def _is_connection_loss(error: Exception) -> bool:
    """Whether Redis has not answered no."""
    import redis

    return not isinstance(error, redis.ResponseError | redis.DataError | redis.AuthenticationError)


def _code(error: Exception) -> str:
    """Redis's short code, such as ``OOM``, or the error's class: never arguments of a command."""
    first = str(error).rpartition("caused error: ")[2].partition(" ")[0]
    name = type(error).__name__
    return first if first.isalpha() and first.isupper() else _CODES.get(name, name)


def _reason(error: Exception) -> str:
    """Why there is no connection: what the network or TLS said, where redis-py has wrapped it."""
    said = error.__context__ if isinstance(error.__context__, OSError) else error
    return type(said).__name__


def _without_arguments(error: Exception) -> Exception | None:
    """The cause to show. redis-py quotes the failed command of a pipeline, and Redis one that it does not
    know, and with it perhaps the message."""
    return None if "Command #" in str(error) or "with args" in str(error) else error
