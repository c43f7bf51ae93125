"""The real Valkey with the limiter's own script, on virtual time.

The network's two ways take at least ``_SHORTEST_WAY`` each. What arrives within such a time can be sent to
the server together, therefore: no answer to the first can change what the last one asks.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import redis

from embedq_worker.limiter.exchange import Handed, Reply, Request, decode_handed, decode_reply, encode_request
from embedq_worker.limiter.keys import mailboxes_key, model_key
from embedq_worker.limiter.scripts import exchange_script
from tests.simulation.agenda import Agenda

EPOCH = 1_700_000_000.0
"""The server's clock at the beginning, so that its numbers have the size of real ones."""
_SHORTEST_WAY = 0.0003
_MEAN_JITTER = 0.0002
_HANDED = "simulation:handed"

Take = Callable[[Reply], None]
Hand = Callable[[str, Handed], None]


class Server:
    """``cost``: seconds that the server is busy with an exchange, during which others wait.

    ``hand`` is called with the process and what came into its mailbox, when it arrives.
    """

    def __init__(
        self, url: str, agenda: Agenda, rng: random.Random, *, hand: Hand, cost: float = 0.0001
    ) -> None:
        self.exchanges = 0
        self._client = redis.Redis.from_url(url)
        self._client.flushall()
        self._client.config_resetstat()
        text = (Path(__file__).parent / "clock.lua").read_text("utf-8")
        self._digest = self._client.script_load(exchange_script(clock=text).text)
        self._took_before = self._processor_time()
        self._connection = self._client.connection_pool.get_connection()
        self._agenda = agenda
        self._rng = rng
        self._hand = hand
        self._cost = cost
        self._free_at = 0.0
        self._batch: list[tuple[float, Request, Take]] = []

    def close(self) -> None:
        """Let go of the connections."""
        self._client.connection_pool.release(self._connection)
        self._client.close()

    def exchange(self, request: Request, take: Take) -> None:
        """Send a request now; ``take`` is called when the answer arrives."""
        self._agenda.after(self._way(), partial(self._arrived, request, take))

    def leases(self, model: str) -> dict[str, float]:
        """Holders whose leases have not lapsed, with the virtual time at which they will."""
        self._run_batch()
        found = cast(
            "list[tuple[bytes, float]]",
            self._client.zrange(model_key(model) + ":leases", 0, -1, withscores=True),
        )
        lapses = {holder.decode(): at / 1000 - EPOCH for holder, at in found}
        return {holder: at for holder, at in lapses.items() if at > self._agenda.now}

    def state(self, model: str) -> dict[str, str]:
        """The hash of a model's state."""
        self._run_batch()
        found = cast("dict[bytes, bytes]", self._client.hgetall(model_key(model)))
        return {field.decode(): value.decode() for field, value in found.items()}

    def lose_memory(self) -> None:
        """Forget all."""
        self._run_batch()
        self._client.flushall()

    def real_cost(self) -> float:
        """Microseconds of processor time that the real server took for an exchange, all included."""
        return (self._processor_time() - self._took_before) / max(1, self.exchanges) * 1e6

    def commands_inside(self) -> float:
        """Redis commands that an exchange makes, on average."""
        stats = cast("dict[str, dict[str, float]]", self._client.info("commandstats"))
        kinds = ("h", "z", "pexpire", "exists")
        inside = sum(
            stat["calls"] for name, stat in stats.items() if name.removeprefix("cmdstat_").startswith(kinds)
        )
        return inside / max(1, self.exchanges)

    def _processor_time(self) -> float:
        used = cast("dict[str, float]", self._client.info("cpu"))
        return used["used_cpu_user"] + used["used_cpu_sys"]

    def _way(self) -> float:
        return _SHORTEST_WAY + self._rng.expovariate(1 / _MEAN_JITTER)

    def _arrived(self, request: Request, take: Take) -> None:
        now = self._agenda.now
        starts_at = max(now, self._free_at)
        self._free_at = starts_at + self._cost
        if not self._batch:
            self._agenda.at(now + _SHORTEST_WAY, self._run_batch)
        self._batch.append((starts_at, request, take))

    def _run_batch(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        self.exchanges += len(batch)
        commands = [self._command(at, request) for at, request, _ in batch]
        commands.append(("LPOP", _HANDED, 1_000_000))
        connection = self._connection
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed)  # type: ignore[no-untyped-call]
        for at, _, take in batch:
            reply = decode_reply(cast("bytes", self._read()))
            self._agenda.at(at + self._cost + self._way(), partial(take, reply))
        for entry in cast("list[bytes]", self._read() or []):
            self._post(entry)

    def _command(self, at: float, request: Request) -> tuple[str | int | bytes, ...]:
        keys = (model_key(request.model), mailboxes_key())
        return ("EVALSHA", self._digest, 2, *keys, encode_request(request), f"{(EPOCH + at) * 1000:.3f}")

    def _read(self) -> object:
        said: object = self._connection.read_response()
        if isinstance(said, Exception):
            raise said
        return said

    def _post(self, entry: bytes) -> None:
        time, process, text = entry.split(b" ", 2)
        at = float(time) / 1000 - EPOCH + self._cost + self._way()
        self._agenda.at(at, partial(self._hand, process.decode(), decode_handed(text)))
