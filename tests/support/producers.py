"""Both kinds of producer, with the same face, so that one test serves both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Self, TypeAlias, cast

from embedq import AsyncProducer, Producer

Kind: TypeAlias = Callable[..., Producer]
"""Makes a producer of one kind."""


class Waiting:
    """An ``AsyncProducer`` whose methods wait for their result."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._producer = AsyncProducer(*arguments, **settings)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._producer, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def __repr__(self) -> str:
        return repr(self._producer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._producer.close())
        self._runner.close()


KINDS = [Producer, cast("Kind", Waiting)]
