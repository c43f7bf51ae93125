"""Everything that can go wrong with an embeddings API, one small class a fault.

A fault alters the right answer (``alter``), or answers in its own way (``respond``). ``FAULTS`` is the
registry; ``docs/testing.md`` describes each and a test holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, get_args

import msgspec
import numpy as np
from aiohttp import web
from msgspec import Meta

from embedq.testing.control import Seconds
from embedq.testing.exchange import Exchange
from embedq.testing.wire import Answer, Envelope, retry_date

Share = Annotated[float, Meta(ge=0, lt=1)]

_HUGE_CHUNK = b" " * 65_536


class Fault(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    """A whole and right answer, which each fault spoils in its way."""

    usable: ClassVar[bool] = False
    """Whether a client gets the right vectors all the same, so that the texts count as billed."""

    def alter(self, answer: Answer) -> None:
        """Change the answer before it is rendered."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Answer the request."""
        answer = exchange.answer()
        self.alter(answer)
        body = answer.body()
        await exchange.latency()
        response = await exchange.send(200, body)
        if self.usable:
            exchange.bill()
        return response


class NoFault(Fault):
    """What happens when no rule hits."""

    usable = True


class Status(Fault):
    """An error status; ``body``, where given, replaces the envelope (for other servers' errors).

    ``retry_after`` is sent as it is, ``retry_date`` as an HTTP date so many (whole) seconds ahead.
    ``headers`` are further ones, such as ``retry-after-ms`` and ``x-ratelimit-reset-requests``.
    """

    status: Annotated[int, Meta(ge=400, le=599)] = 500
    message: str = "Something wrong with the server"
    envelope: Envelope = "problem"
    retry_after: str | None = None
    body: str | None = None
    retry_date: Seconds | None = None
    headers: dict[str, str] = {}

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Refuse, with ``Retry-After`` where one is given."""
        await exchange.latency()
        headers = self._headers()
        if self.body is not None:
            return await exchange.send(self.status, self.body.encode(), headers=headers)
        return await exchange.refuse(self.status, self.message, envelope=self.envelope, headers=headers)

    def _headers(self) -> dict[str, str]:
        date = {} if self.retry_date is None else retry_date(self.retry_date)
        plain = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        return date | plain | self.headers


class RefusedKey(Fault):
    """401, as for a key that is missing or wrong."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Refuse the key."""
        return await exchange.refuse(401, "Missing or invalid API key")


class NoCredits(Fault):
    """403, as when the account has run out of credits."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Refuse the account, in the gateway's own spelling."""
        data = {"kind": "err_insufficent_credits"}
        return await exchange.refuse(403, "You've run out of credits.", data=data)


class MissingModel(Fault):
    """404, as for a model that was withdrawn."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Refuse the model."""
        return await exchange.refuse(404, "Model not found")


class BadText(Fault):
    """A refusal for what a text says; with a rule's ``marker``, only texts that contain it are bad."""

    status: Annotated[int, Meta(ge=400, le=599)] = 400

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Refuse the input."""
        await exchange.latency()
        data = [{"code": "custom", "path": ["input"]}]
        return await exchange.refuse(self.status, "Invalid payload provided", data=data)


class Redirect(Fault):
    """A redirect that a client must not follow."""

    status: Literal[301, 302, 303, 307, 308] = 307
    location: str = "/elsewhere"

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the client elsewhere."""
        return await exchange.send(self.status, b"", headers={"Location": self.location})


class Hang(Fault):
    """No answer until the client goes away or the fake API is reset."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Wait for the end, then drop the connection."""
        await exchange.ended.wait()
        return exchange.reset()


class Reset(Fault):
    """A TCP reset after a share of the answer; 0 is before its first byte."""

    share: Share = 0.5

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send a share and reset."""
        body = exchange.answer().body()
        await exchange.latency()
        if self.share:
            await exchange.stream(len(body), [body[: int(len(body) * self.share)]])
        return exchange.reset()


class CutBody(Fault):
    """The connection is closed (FIN) before the promised length was sent."""

    share: Share = 0.5

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send a share and close."""
        body = exchange.answer().body()
        await exchange.latency()
        await exchange.stream(len(body), [body[: int(len(body) * self.share)]])
        return exchange.close()


class CutJSON(Fault):
    """Whole as HTTP, but the JSON stops in the middle."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the first half as if it were all."""
        body = exchange.answer().body()
        await exchange.latency()
        return await exchange.send(200, body[: len(body) // 2])


class NotJSON(Fault):
    """200 with a page of HTML, as some proxies answer."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the page."""
        return await exchange.send(200, b"<html><body>Bad gateway</body></html>", "text/html")


class HugeReply(Fault):
    """An answer of ``size`` bytes that a client must not read to its end."""

    size: Annotated[int, Meta(ge=1)] = 1 << 30

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send spaces until the size is reached or the client has had enough."""
        chunks = (_HUGE_CHUNK[: self.size - sent] for sent in range(0, self.size, len(_HUGE_CHUNK)))
        return await exchange.stream(self.size, chunks)


class SlowDrip(Fault):
    """The right answer in ``pieces`` over ``seconds``, so that no single read times out."""

    usable = True
    seconds: Annotated[float, Meta(ge=0)] = 10.0
    pieces: Annotated[int, Meta(ge=1)] = 100

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send a piece at a time."""
        body = exchange.answer().body()
        size = -(-len(body) // self.pieces)
        parts = (body[start : start + size] for start in range(0, len(body), size))
        response = await exchange.stream(len(body), parts, self.seconds / self.pieces)
        exchange.record.status = 200
        exchange.bill()
        return response


class WrongCount(Fault):
    """One vector too few, or with ``extra`` one too many."""

    extra: bool = False

    def alter(self, answer: Answer) -> None:
        """Repeat or drop the last vector."""
        count = len(answer.indexes) + (1 if self.extra else -1)
        answer.vectors = np.concatenate([answer.vectors, answer.vectors[-1:]])[:count]
        answer.indexes = list(range(count))


class ShuffledOrder(Fault):
    """The vectors in reverse order, each with its right index."""

    usable = True

    def alter(self, answer: Answer) -> None:
        """Reverse both."""
        answer.vectors = answer.vectors[::-1]
        answer.indexes.reverse()


class WrongIndex(Fault):
    """Every index is one too high, so that the last names no text."""

    def alter(self, answer: Answer) -> None:
        """Shift the indexes."""
        answer.indexes = [index + 1 for index in answer.indexes]


class RepeatedIndex(Fault):
    """Every vector claims index 0 (no fault in a request with one text)."""

    def alter(self, answer: Answer) -> None:
        """Repeat the index."""
        answer.indexes = [0] * len(answer.indexes)


class WrongDimensions(Fault):
    """Vectors one component too short, or with ``extra`` one too long."""

    extra: bool = False

    def alter(self, answer: Answer) -> None:
        """Repeat or drop the last component."""
        dimensions = answer.vectors.shape[1] + (1 if self.extra else -1)
        answer.vectors = np.hstack([answer.vectors, answer.vectors[:, -1:]])[:, :dimensions]


class NotFinite(Fault):
    """The first vector has a NaN or an infinity (``null`` where floats were asked for: JSON has neither)."""

    value: Literal["nan", "inf", "-inf"] = "nan"

    def alter(self, answer: Answer) -> None:
        """Spoil one component."""
        answer.vectors[0, 0] = float(self.value)


class ZeroVector(Fault):
    """The first vector is all zeros."""

    def alter(self, answer: Answer) -> None:
        """Zero it."""
        answer.vectors[0] = 0.0


class Noise(Fault):
    """Every vector is turned by a cosine distance of ``distance``, each time in another direction."""

    distance: Annotated[float, Meta(ge=0, le=1)] = 1e-5

    def alter(self, answer: Answer) -> None:
        """Turn each vector towards one that is orthogonal to it (none is in one dimension)."""
        vectors = answer.vectors.astype(np.float64)
        sideways = np.random.default_rng().normal(size=vectors.shape)
        sideways -= np.einsum("ij,ij->i", sideways, vectors)[:, np.newaxis] * vectors
        sideways /= np.linalg.norm(sideways, axis=1, keepdims=True)
        cosine = 1 - self.distance
        answer.vectors = (cosine * vectors + np.sqrt(1 - cosine**2) * sideways).astype(np.float32)


class NoUsage(Fault):
    """The right vectors with ``usage`` null, or without the field."""

    usable = True
    form: Literal["null", "missing"] = "null"

    def alter(self, answer: Answer) -> None:
        """Withhold the usage."""
        answer.usage = self.form


class Floats(Fault):
    """The right vectors as lists of numbers, though base64 was asked for."""

    usable = True

    def alter(self, answer: Answer) -> None:
        """Ignore the format."""
        answer.base64 = False


AnyFault = (
    Status
    | RefusedKey
    | NoCredits
    | MissingModel
    | BadText
    | Redirect
    | Hang
    | Reset
    | CutBody
    | CutJSON
    | NotJSON
    | HugeReply
    | SlowDrip
    | WrongCount
    | ShuffledOrder
    | WrongIndex
    | RepeatedIndex
    | WrongDimensions
    | NotFinite
    | ZeroVector
    | Noise
    | NoUsage
    | Floats
)
FAULTS: Sequence[type[Fault]] = get_args(AnyFault)
"""The registry."""
