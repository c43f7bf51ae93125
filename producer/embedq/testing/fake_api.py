"""A fake embeddings API in a process of its own, and the handle that a test steers it by."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from embedq.errors import EmbedqError
from embedq.testing.busiest import Busiest, busiest
from embedq.testing.control import CONTROL_PATH, TOKEN_HEADER, CallRecord, Configuration, Stats, Wait
from embedq.testing.faults import AnyFault
from embedq.testing.rules import Rule
from embedq.testing.vectors import Vectors, digest_of, vector_of

START_SECONDS = 30.0
STOP_SECONDS = 5.0

Reply = TypeVar("Reply")


class FakeAPIError(EmbedqError):
    """The fake API did not start, does not answer, or was asked for what it cannot do."""


class _Hello(msgspec.Struct):
    port: int
    pid: int
    token: str


class FakeAPI:
    """An OpenAI-compatible embeddings API on a random port of the loopback interface.

    Use it as a context manager. It answers any model with deterministic vectors (``vector``), at once, until
    ``configure`` and ``inject`` say otherwise. Start one for a whole test session and ``reset`` it before
    each test. The process ends with the ``with`` block, and with its parent however that dies.
    Methods raise ``FakeAPIError``.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._hello = _Hello(0, 0, "")

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "embedq.testing.server", "--with-parent"]
        self._process = subprocess.Popen(  # noqa: S603 -- our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        try:
            self._hello = msgspec.json.decode(self._process.stdout.readline(), type=_Hello)
            self._check_identity()
        except (msgspec.DecodeError, FakeAPIError) as error:
            self._stop()
            raise FakeAPIError("the fake API did not start; its standard error says why") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def base_url(self) -> str:
        """What a client is given as the API's base URL."""
        return f"http://127.0.0.1:{self._hello.port}/v1"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._hello.pid

    def configure(self, model: str | None = None, **settings: object) -> None:
        """Change some settings (the fields of ``Behaviour``) of every model, or of one."""
        self._control("configure", Configuration(settings, model), type(None))

    def inject(
        self,
        fault: AnyFault,
        *,
        model: str | None = None,
        marker: str | None = None,
        probability: float | None = None,
        seed: int = 0,
        next_calls: int | None = None,
    ) -> None:
        """Let calls that meet every given condition fail so; of several faults the first that hits counts."""
        rule = Rule(
            fault=fault, model=model, marker=marker, probability=probability, seed=seed, next_calls=next_calls
        )
        self._control("inject", rule, type(None))

    def reset(self) -> None:
        """Forget settings, faults and counts; calls that hang are dropped."""
        self._control("reset", None, type(None))

    def stats(self) -> Stats:
        """The counts since the start or the last reset."""
        return self._control("stats", None, Stats)

    def calls(self, model: str | None = None) -> list[CallRecord]:
        """The last 100,000 calls one by one, oldest first; of every model, or of one."""
        records = self._control("calls", None, list[CallRecord])
        return [record for record in records if model in (None, record.model)]

    def busiest_minute(self, model: str, minute: float = 60.0) -> Busiest:
        """The most calls and the most tokens of a model in any sliding window of ``minute`` seconds.

        Counted are the admitted calls (``CallRecord.admitted``) among the last 100,000, by arrival: those
        that the server holds against ``requests_per_minute`` and ``tokens_per_minute``.
        """
        return busiest(self.calls(model), minute)

    def billed(self, texts: Iterable[str]) -> list[int]:
        """How often each text got a whole and right answer."""
        return self._control("billed", [digest_of(text) for text in texts], list[int])

    def billings(self, texts: Iterable[str]) -> list[list[CallRecord]]:
        """The calls by which each text got a whole and right answer, oldest first."""
        return self._control("billings", [digest_of(text) for text in texts], list[list[CallRecord]])

    def wait_for(self, *, calls: int = 0, in_flight: int = 0, timeout: float = 10.0) -> None:
        """Return once there were ``calls`` calls and ``in_flight`` are in flight; ``timeout`` in seconds."""
        wanted = f"{calls} calls with {in_flight} in flight"
        self._wait(Wait(timeout, calls=calls, in_flight=in_flight), wanted)

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Return once no call is in flight; ``timeout`` in seconds."""
        self._wait(Wait(timeout, idle=True), "no calls in flight")

    @staticmethod
    def vector(text: str, dimensions: int) -> Vectors:
        """The vector that the API gives for a text: float32, shape ``(dimensions,)``; see ``vector_of``."""
        return vector_of(text, dimensions)

    def _wait(self, wait: Wait, wanted: str) -> None:
        if not self._control("wait", wait, bool, wait.timeout + STOP_SECONDS):
            raise FakeAPIError(f"waited {wait.timeout} s for {wanted}; stats() says how far it came")

    def _check_identity(self) -> None:
        """The server that answers on the port has the token of our own process's line."""
        identity = self._control("identity", None, dict[str, int])
        if identity["pid"] != self._hello.pid:
            raise FakeAPIError("another process answers on the fake API's port")

    def _control(self, name: str, asked: object, reply: type[Reply], timeout: float = START_SECONDS) -> Reply:
        connection = HTTPConnection("127.0.0.1", self._hello.port, timeout=timeout)
        try:
            headers = {TOKEN_HEADER: self._hello.token}
            connection.request("POST", f"{CONTROL_PATH}/{name}", msgspec.json.encode(asked), headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise FakeAPIError(f"the fake API does not answer: {error}; was its block left?") from error
        finally:
            connection.close()
        if response.status != 200:
            raise FakeAPIError(f"the fake API refused {name!r}: {body.decode(errors='replace')}")
        return msgspec.json.decode(body, type=reply)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
