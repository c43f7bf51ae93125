"""One request of the fake API and the ways to answer it: whole, in part, slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web

from embedq.testing.control import Behaviour, CallRecord
from embedq.testing.meter import Meter
from embedq.testing.vectors import digest_of, vectors_of
from embedq.testing.wire import Answer, Asked, Envelope, error_body, error_type

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Exchange:
    """A request that was read, on its way to its answer."""

    request: web.Request
    behaviour: Behaviour
    meter: Meter
    record: CallRecord
    asked: Asked | None
    ended: asyncio.Event
    """Set when the fake API is reset."""
    headers: Mapping[str, str]

    def answer(self) -> Answer:
        """The right answer."""
        asked = self._read()
        dimensions = asked.dimensions or self.behaviour.dimensions
        salt = self.behaviour.salt
        digests = [digest_of(salt + text) for text in asked.texts] if salt else asked.digests
        vectors = vectors_of(digests, dimensions)
        return Answer(asked.model, vectors, list(range(len(vectors))), asked.tokens, asked.base64)

    async def latency(self) -> None:
        """Sleep until the answer is due."""
        due = self.behaviour.latency + self.behaviour.latency_per_text * self.record.texts
        left = self.record.at + due - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)

    async def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Send a whole answer and note its status."""
        response = web.Response(
            status=status, body=body, content_type=content_type, headers={**self.headers, **(headers or {})}
        )
        await response.prepare(self.request)
        await response.write_eof()
        self.record.status = status
        return response

    async def refuse(
        self,
        status: int,
        message: str,
        *,
        envelope: Envelope = "problem",
        data: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Send an error in one of the gateway's envelopes."""
        body = error_body(status, message, envelope, data)
        return await self.send(status, body, error_type(envelope), headers)

    async def stream(self, length: int, parts: Iterable[bytes], pause: float = 0.0) -> web.StreamResponse:
        """Promise ``length`` bytes and send ``parts``, with ``pause`` seconds before each; ends nothing."""
        response = web.StreamResponse(headers={**self.headers, "Content-Type": "application/json"})
        response.content_length = length
        await response.prepare(self.request)
        for part in parts:
            await asyncio.sleep(pause)
            await response.write(part)
        return response

    def bill(self) -> None:
        """Note that the texts were answered for, whole and right."""
        self.meter.bill(self.record, self._read().digests)

    def close(self) -> web.StreamResponse:
        """Close the connection as if all had been said (FIN)."""
        if self.request.transport is not None:
            self.request.transport.close()
        return web.Response()

    def reset(self) -> web.StreamResponse:
        """Drop the connection with a TCP reset."""
        transport = self.request.transport
        if transport is not None:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        return web.Response()

    def _read(self) -> Asked:
        assert self.asked is not None, "an unreadable request is only ever refused"
        return self.asked
