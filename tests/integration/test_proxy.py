"""The proxy of the tests: it passes everything on, and fails in the ways it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy import Proxy


class Echo:
    """A server that sends back what it gets, over TCP or a Unix socket."""

    def __init__(self, path: Path | None = None) -> None:
        self._listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self._listener.bind(("127.0.0.1", 0) if path is None else str(path))
        self._listener.listen()
        self.address: int | Path = self._listener.getsockname()[1] if path is None else path
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop serving; the clients have gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._echo, args=(connection,)))
            self._threads[-1].start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture(params=["tcp", "unix"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy before a server that sends everything back."""
    echo = Echo(None if request.param == "tcp" else tmp_path / "socket")
    with Proxy(echo.address) as proxy:
        yield proxy
    echo.close()


def connect(proxy: Proxy) -> socket.socket:
    """A client of the server behind the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def receive(client: socket.socket, count: int) -> bytes:
    """So many bytes, or as many as come before the end."""
    received = b""
    while len(received) < count and (data := client.recv(count - len(received))):
        received += data
    return received


def test_it_passes_everything_on(proxy: Proxy) -> None:
    """More than the buffers between hold, in both directions at once, and then the end of it."""
    sent = bytes(range(256)) * 20_000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert receive(client, len(sent)) == sent
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert proxy.cuts == 0


def test_it_cuts_all_connections(proxy: Proxy) -> None:
    """Both clients are reset, and a new one is served."""
    with connect(proxy) as first, connect(proxy) as second:
        for client in (first, second):
            client.sendall(b"hello")
            assert receive(client, 5) == b"hello"
        proxy.cut()
        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert proxy.cuts == 2
    with connect(proxy) as client:
        client.sendall(b"again")
        assert receive(client, 5) == b"again"


def test_it_cuts_in_the_middle_of_a_message(proxy: Proxy) -> None:
    """Seven of ten bytes come back; the other direction has not passed as many."""
    with connect(proxy) as client:
        client.sendall(b"before")
        assert receive(client, 6) == b"before"
        proxy.cut_after(17)
        client.sendall(b"0123456789")
        assert receive(client, 10) == b"0123456789"
        client.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            receive(client, 10)
    assert proxy.cuts == 1
    with connect(proxy) as client:
        client.sendall(b"once only, and never again")
        assert receive(client, 26) == b"once only, and never again"


def test_bytes_before_the_cut_arrive() -> None:
    """What the server sends up to the cut is received by the client before the reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:
        proxy.cut_after(7)
        with connect(proxy) as client:
            server, _ = listener.accept()
            with server:
                server.sendall(b"0123456789")
                assert receive(client, 7) == b"0123456"
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


def test_it_stalls(proxy: Proxy) -> None:
    """Nothing comes, the connection stays, and afterwards what was sent meanwhile arrives."""
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"
        proxy.stall()
        client.sendall(b"lost?")
        with connect(proxy) as late:
            late.sendall(b"late")
            for waiting in (client, late):
                waiting.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
                waiting.settimeout(10)
            proxy.resume()
            assert receive(client, 5) == b"lost?"
            assert receive(late, 4) == b"late"


def test_it_refuses(proxy: Proxy) -> None:
    """New connections are refused, the open one goes on; then the same port takes them again."""
    with connect(proxy) as client:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"
        proxy.accept()
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"


def test_a_server_that_is_away() -> None:
    """The client is connected and then reset, whatever it sends."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(nobody.getsockname()[1]) as proxy:
            # The reset may come before connect has returned.
            with pytest.raises(ConnectionResetError), connect(proxy) as client:
                client.recv(1)
            assert proxy.cuts == 0
