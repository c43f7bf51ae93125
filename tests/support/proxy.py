"""A TCP proxy that stands before a server and fails as networks do.

It cuts connections, in the middle of a message too, lets them stall without closing them, and refuses new
ones. What it does not spoil it passes on byte for byte.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
Result = TypeVar("Result")


class Proxy:
    """Passes connections to ``port`` (of 127.0.0.1) on to a server.

    ``upstream`` is the server's port on 127.0.0.1, or the path of its Unix socket; it may be restarted
    meanwhile. A context manager with a thread of its own. Its methods may be called from any thread, and what
    they do is done when they return.
    """

    def __init__(self, upstream: int | Path) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = _bound(0)
        self._is_accepting = False
        self._links: set[_Link] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self._cuts_answer = False
        self.stalled = False
        """Whether bytes go nowhere."""
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        """Connections that it has cut."""

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection (RST) on both sides; what is on its way is lost."""
        self._do(self._cut_all)

    def cut_after(self, n_bytes: int) -> None:
        """Cut the first connection over which ``n_bytes`` more bytes pass in one direction.

        The bytes up to there arrive, those after them do not. It happens once.
        """
        self._do(lambda: self._arm(n_bytes))

    def cut_answer(self) -> None:
        """Cut the first connection over which the server answers, before the client hears a word. It happens
        once."""
        self._do(lambda: self._arm_answer(cuts=True))

    def stall(self) -> None:
        """Let bytes go nowhere, over new connections too; all stay open, as over a line that went dead."""
        self._do(lambda: self._set_stalled(True))

    def resume(self) -> None:
        """Let bytes pass again, those that waited first."""
        self._do(lambda: self._set_stalled(False))

    def refuse(self) -> None:
        """Refuse new connections, as a server that is not running does; open ones stay."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Take new connections again."""
        self._do(self._accept)

    def lead_to(self, port: int) -> None:
        """Pass new connections on to another server of 127.0.0.1; open ones stay where they are."""
        self._upstream = port

    def _do(self, work: Callable[[], Result]) -> Result:
        """Run something on the loop, and wait for it."""

        async def run() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _accept(self) -> None:
        if not self._is_accepting:
            self._is_accepting = True
            self._listener.listen(1024)
            self._loop.add_reader(self._listener, self._take_clients)

    def _refuse(self) -> None:
        """A port that is bound and not listened to refuses, and nobody else can take it."""
        if self._is_accepting:
            self._is_accepting = False
            self._take_clients()  # those who are connected already, as they see it
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = _bound(self.port)

    def _take_clients(self) -> None:
        # By hand: asyncio's server, closed just after it has accepted somebody, leaves him hanging.
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            link = _Link(self)
            self._links.add(link)
            opening = self._loop.create_task(link.open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _close(self) -> None:
        self._refuse()
        self._listener.close()
        self._cut_all()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    def _cut_all(self) -> None:
        for link in list(self._links):
            link.reset()

    def _arm(self, n_bytes: int) -> None:
        self._left = n_bytes
        for link in self._links:
            link.client.passed = link.server.passed = 0

    def _arm_answer(self, *, cuts: bool) -> None:
        self._cuts_answer = cuts

    def _set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        for link in self._links:
            link.client.read_on()
            link.server.read_on()

    async def connect(self, server: asyncio.Protocol) -> None:
        """Connect a link to the server. Raises ``OSError``."""
        if isinstance(self._upstream, Path):
            await self._loop.create_unix_connection(lambda: server, str(self._upstream))
        else:
            await self._loop.create_connection(lambda: server, "127.0.0.1", self._upstream)

    def allowed(self, side: _Side, size: int) -> int | None:
        """How many of so many bytes may still pass before the cut; None: all of them, and no cut."""
        if self._cuts_answer and side.is_server:
            return 0
        side.passed += size
        if self._left is None or side.passed < self._left:
            return None
        return size - (side.passed - self._left)

    def forget(self, link: _Link, *, was_cut: bool) -> None:
        """A link is over."""
        self._links.discard(link)
        self.cuts += was_cut

    def disarm(self) -> None:
        """The cut that was asked for has happened."""
        self._left = None
        self._cuts_answer = False


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = _Side(self)
        self.server = _Side(self)
        self._over = False

    async def open(self, connection: socket.socket) -> None:
        """A client has connected: do so to the server."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.client, connection)
        try:
            await self.proxy.connect(self.server)
        except OSError:
            self.reset(was_cut=False)
        if self._over:  # perhaps before there was anything to close
            self.client.reset()
            self.server.reset()
            return
        self.client.read_on()
        self.server.read_on()

    def other(self, side: _Side) -> _Side:
        """The opposite side."""
        return self.server if side is self.client else self.client

    def reset(self, *, was_cut: bool = True) -> None:
        """Reset both connections."""
        if not self._over:
            self._over = True
            self.client.reset()
            self.server.reset()
            self.proxy.forget(self, was_cut=was_cut)

    def lost(self, side: _Side, error: Exception | None) -> None:
        """One connection has ended: end the other in the same way."""
        if self._over:
            return
        if error is not None:
            self.reset(was_cut=False)
            return
        self._over = True
        self.other(side).close()
        self.proxy.forget(self, was_cut=False)


class _Side(asyncio.Protocol):
    """One of a link's two connections; what it receives goes out over the other."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self.passed = 0

    @property
    def is_server(self) -> bool:
        """Whether it is the connection to the server."""
        return self is self._link.server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()  # until both sides are there

    def data_received(self, data: bytes) -> None:
        allowed = self._link.proxy.allowed(self, len(data))
        other = self._link.other(self)
        if allowed is None:
            other.write(data)
            return
        other.write(data[:allowed])
        self._link.proxy.disarm()
        self._link.reset()

    def eof_received(self) -> bool:
        self._link.other(self).write_eof()
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(self, exc)

    def pause_writing(self) -> None:
        self._is_full = True
        self._link.other(self).read_on()

    def resume_writing(self) -> None:
        self._is_full = False
        self._link.other(self).read_on()

    def read_on(self) -> None:
        """Read, or do not, as things are."""
        other = self._link.other(self)
        if self._transport is None or self._transport.is_closing() or other._transport is None:
            return
        if self._link.proxy.stalled or other._is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close when everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once, with RST where it is TCP."""
        if self._transport is None:
            return
        connection: socket.socket | None = self._transport.get_extra_info("socket")
        if connection is not None and connection.fileno() != -1 and connection.family == socket.AF_INET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


def _bound(port: int) -> socket.socket:
    """A socket on a port of 127.0.0.1, 0: a free one; it takes no connections yet."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    return listener
