"""An OpenAI-compatible embeddings server with a small real model: for demos and tests without key or network.

The model is wordllama's ``l2_supercat``, whose weights and tokenizer come with its wheel: the mean of a
text's 256-dimensional token vectors. By its training, the first 64 or 128 components serve as vectors too.
``python -m embedq_worker.embedded.local_api --port 0`` prints one JSON line with its base URL and process id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
from aiohttp import web
from msgspec import Meta

from embedq.errors import ConfigurationError

MODEL = "wordllama-256"
DIMENSIONS = 256
CUTS = (64, 128, 256)
"""Dimensions that the model was trained for: wordllama's ``available_dims``, up to the wheel's weights."""
MAX_INPUTS = 2048
"""Texts in one request, as at OpenAI."""
MAX_REQUEST_BYTES = 32 << 20

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8089

_TOKENS_AT_ONCE = 8192
"""Bounds the memory of one long text: its tokens' vectors take a kilobyte each."""

Vectors = npt.NDArray[np.float32]
Ready = Callable[[str], None]
_Text = Annotated[str, Meta(min_length=1)]


class _Request(msgspec.Struct):
    model: str
    input: _Text | Annotated[list[_Text], Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class _RefusedError(Exception):
    """A request that gets OpenAI's error envelope for an answer."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


class Model:
    """The model in memory: about 32 MB."""

    def __init__(self) -> None:
        """Load it from the installed package; raises ``ConfigurationError`` if that is missing."""
        spec = find_spec("wordllama")
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                "the package 'wordllama' is missing: install it with pip install 'embedq[embedded]'"
            )
        from wordllama import WordLlama

        # It looks for the tokenizer in its cache only, and its wheel has it in the package's own folder.
        loaded = WordLlama.load(dim=DIMENSIONS, cache_dir=Path(spec.origin).parent, disable_download=True)
        self._embedding = cast("Vectors", loaded.embedding)
        self._tokenizer = loaded.tokenizer
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str], dimensions: int = DIMENSIONS) -> tuple[Vectors, int]:
        """Vectors of unit length, shape ``(len(texts), dimensions)``, and how many tokens the texts have."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        sums = np.stack([self._sum(encoding.ids) for encoding in encodings])[:, :dimensions]
        vectors: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors, sum(len(encoding.ids) for encoding in encodings)

    def _sum(self, tokens: Sequence[int]) -> Vectors:
        # The sum, not wordllama's padded mean: the same direction without the memory of padding.
        total = np.zeros(DIMENSIONS, dtype=np.float32)
        for start in range(0, len(tokens), _TOKENS_AT_ONCE):
            total += self._embedding[tokens[start : start + _TOKENS_AT_ONCE]].sum(axis=0)
        return total


class LocalAPI:
    """The endpoints."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # One at a time: the tokenizer uses all cores by itself.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._since = int(time.time())

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.health)
        app.on_cleanup.append(self._close)
        return app

    async def embeddings(self, request: web.Request) -> web.Response:
        """``POST /v1/embeddings``."""
        try:
            asked = _parse(await _body(request))
        except _RefusedError as refused:
            return _error(refused)
        loop = asyncio.get_running_loop()
        return _json(await loop.run_in_executor(self._executor, self._answer, asked))

    async def models(self, _request: web.Request) -> web.Response:
        """``GET /v1/models``."""
        model = {"id": MODEL, "object": "model", "created": self._since, "owned_by": "embedq"}
        return _json(msgspec.json.encode({"object": "list", "data": [model]}))

    async def health(self, _request: web.Request) -> web.Response:
        """``GET /health``: the model is loaded before the server listens."""
        return _json(msgspec.json.encode({"status": "ok", "model": MODEL}))

    def _answer(self, asked: _Request) -> bytes:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors, tokens = self._model.embed(texts, asked.dimensions or DIMENSIONS)
        render = _base64 if asked.encoding_format == "base64" else _floats
        data = [
            {"object": "embedding", "index": index, "embedding": render(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": MODEL, "usage": usage})

    async def _close(self, _app: web.Application) -> None:
        self._executor.shutdown(wait=False)


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        message = f"the request is larger than {MAX_REQUEST_BYTES} bytes: send fewer texts"
        raise _RefusedError(413, message) from None


def _parse(body: bytes) -> _Request:
    try:
        asked = msgspec.json.decode(body, type=_Request)
    except msgspec.ValidationError as error:
        raise _RefusedError(400, str(error), _field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _RefusedError(400, "the body is not JSON in UTF-8") from None
    if asked.model != MODEL:
        message = f"this server has one model, {MODEL!r}"
        raise _RefusedError(404, message, "model", "model_not_found")
    if asked.dimensions is not None and asked.dimensions not in CUTS:
        raise _RefusedError(400, f"dimensions must be one of {', '.join(map(str, CUTS))}", "dimensions")
    return asked


def _field(message: str) -> str | None:
    """The field that a validation error's path (``… - at `$.input[0]```) names."""
    _, _, path = message.partition("`$.")
    return path.split("[")[0].rstrip("`") or None


def _base64(vector: Vectors) -> str:
    return b2a_base64(vector.astype("<f4", copy=False).tobytes(), newline=False).decode()


def _floats(vector: Vectors) -> list[float]:
    return cast("list[float]", vector.tolist())


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _error(refused: _RefusedError) -> web.Response:
    error: dict[str, Any] = {"message": str(refused), "type": "invalid_request_error"}
    error |= {"param": refused.param, "code": refused.code}
    return _json(msgspec.json.encode({"error": error}), refused.status)


async def serve(host: str, port: int, ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` gets the base URL once the server listens."""
    runner = web.AppRunner(LocalAPI(Model()).application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, shutdown_timeout=1.0).start()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        ready(_base_url(host, runner.addresses[0][1]))
        await stop.wait()
    finally:
        await runner.cleanup()


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _announce(base_url: str) -> None:
    sys.stdout.write(json.dumps({"base_url": base_url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()


def run(host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, ready: Ready = _announce) -> None:
    """Serve in the foreground until SIGINT or SIGTERM; port 0 picks a free one.

    There is no authentication: any key is accepted, so that ``host`` is the loopback interface unless asked
    otherwise. Raises ``ConfigurationError`` if the model is not installed or the address cannot be used.
    """
    try:
        asyncio.run(serve(host, port, ready))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(
        prog="python -m embedq_worker.embedded.local_api", description="A local embeddings server."
    )
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one")
    arguments = parser.parse_args()
    run(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
