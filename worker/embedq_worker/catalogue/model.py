"""One embedding model: what the service that serves it accepts, gives and costs."""

from __future__ import annotations

from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from embedq_worker.errors import BadDimensions
from embedq_worker.secret import Secret

Family = Literal["openai", "voyage", "google", "alibaba", "plain"]
"""Whose request fields a model understands; ``plain`` is any other OpenAI-compatible server."""
Parameter = Union[str, bool, int, float]  # noqa: UP007  msgspec reads it at run time, on every supported Python
Positive = Annotated[int, Meta(ge=1)]
Calls = Annotated[int, Meta(ge=1, le=1_000_000)]
"""In flight; more is no limit, and Redis' Lua would write it as a fraction in the end."""
Rate = Annotated[int, Meta(ge=1, le=10**12)]
"""A minute; likewise."""
Size = Annotated[int, Meta(ge=1, le=16_000)]
"""Dimensions; 16,000 is what a pgvector column holds (PGV)."""


class DimensionRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every size from ``min`` to ``max``, both included."""

    min: Size
    max: Size

    def __contains__(self, dimensions: int) -> bool:
        return self.min <= dimensions <= self.max

    def __str__(self) -> str:
        return f"{self.min} to {self.max}"


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's facts, and the user's settings for it.

    Defaults are what a model has whose facts nobody gave. Characters are counted by ``count_characters``.
    """

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name sent to the API."""
    aliases: tuple[str, ...] = ()
    """Other names of the same model."""
    developer: str | None = None
    """Who made it."""
    family: Family = "plain"
    """Whose request fields it understands; ``plain``: any other OpenAI-compatible server."""
    dimensions: Size
    """The size of a vector when nothing else is asked for."""
    allowed_dimensions: Literal["fixed"] | DimensionRange | tuple[Size, ...] = "fixed"
    """``fixed``: only ``dimensions``, and the request may not name a size."""

    max_tokens: Positive = 8_192
    """Tokens of one text."""
    max_chars_alone: Positive | None = None
    """Characters of a text that is the only one of its request."""
    max_chars_in_array: Positive | None = None
    """Characters of each text of an array; a longer one must go alone, as a string."""
    max_inputs: Positive = 32
    """Texts of one request. The default is the lowest limit of the common servers (TEI)."""
    max_request_tokens: Positive = 120_000
    """Tokens of one request, all texts together."""
    tokens_per_byte: Annotated[float, Meta(gt=0, le=4)] = 0.5
    """First estimate of tokens per UTF-8 byte, on the high side, until ``usage`` tells better."""
    tokenizer: Literal["cl100k_base"] | None = None
    """The model's own byte-level tokenizer, for exact counts where ``embedq[tokenizer]`` is installed; None:
    not known, or in no small package."""

    base64: bool = False
    """Whether vectors may be asked for as base64; answers are read in either form."""
    unit_length: bool | None = None
    """Whether vectors have length 1, so that inner product and cosine order alike; None: not known."""
    document_parameters: dict[str, Parameter] = {}
    """Further JSON fields of a request for texts to be stored."""
    query_parameters: dict[str, Parameter] = {}
    """Further JSON fields of a request for a search text."""
    document_prefix: str = ""
    """Put before each text to be stored."""
    query_prefix: str = ""
    """Put before a search text."""

    usd_per_million_tokens: Annotated[float, Meta(ge=0)] | None = None
    """List price of the model's provider; the gateway's own price is not known."""
    status: Literal["listed", "withdrawn"] = "listed"
    """``withdrawn``: refused, unless another server has it."""
    status_note: str = ""
    """For a withdrawn model: since when, and what to do instead."""
    sources: dict[str, tuple[str, ...]] = {}
    """Fact → tags of ``Catalogue.sources``."""

    max_concurrency: Calls = 16
    """Calls in flight, whole fleet. Too low leaves the API idle; too high draws 429s."""
    concurrency: Literal["aimd", "fixed"] = "aimd"
    """``aimd``: the limit adapts below ``max_concurrency`` when the service pushes back; ``fixed``: it is
    always ``max_concurrency``, and one that is too high goes on drawing 429s."""
    requests_per_minute: Rate | None = None
    """Requests in any minute, whole fleet; None: not limited by us. Too low leaves the API idle; too high, or
    None where the service has a limit, draws 429s."""
    tokens_per_minute: Rate | None = None
    """Tokens in any minute, whole fleet; None: not limited by us. Too low leaves the API idle; too high, or
    None where the service has a limit, draws 429s."""
    texts_per_request: Positive = 256
    """Texts that a request is filled up to: what the user set as ``max_inputs``, else 256. Too low pays more
    round trips; too high makes answers of many megabytes, and fewer calls at a time."""
    base_url: str | None = None
    """Another server for this model; None: ``Settings.api_base_url``."""
    api_key: Secret | None = None
    """The key for ``base_url``; the default key is never sent there."""

    @property
    def takes_dimensions(self) -> bool:
        """Whether a request may name the size of the vectors."""
        return self.allowed_dimensions != "fixed"

    @property
    def inputs(self) -> int:
        """Texts of one request: as many as wanted, never above what the model takes."""
        return min(self.max_inputs, self.texts_per_request)

    def check_dimensions(self, dimensions: int) -> None:
        """Raise ``BadDimensions`` unless the model makes vectors of this size."""
        if dimensions == self.dimensions:
            return
        if self.allowed_dimensions == "fixed" or dimensions not in self.allowed_dimensions:
            raise BadDimensions(self.id, dimensions, self.dimensions_in_words())

    def dimensions_in_words(self) -> str:
        """The sizes that the model makes, for people."""
        if self.allowed_dimensions == "fixed":
            return str(self.dimensions)
        if isinstance(self.allowed_dimensions, DimensionRange):
            return str(self.allowed_dimensions)
        return ", ".join(str(size) for size in self.allowed_dimensions)


def count_characters(text: str) -> int:
    """Characters of ``text`` as the gateway's validator counts them: UTF-16 units, an emoji is two."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
