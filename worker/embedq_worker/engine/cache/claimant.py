"""The claimant: this process as the one that gets the vectors of some texts for the whole fleet.

Its claims live while one row in the database is renewed. A process that was stopped, or without the database,
for too long has lost them: others may be getting the same vectors by then. So it stops asking for them by its
own clock, which is never later than the database's, and claims again under another name.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from math import inf
from time import monotonic

from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.errors import RowRefused, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.vector_cache import begin_claimant, end_claimant, renew_claimant

logger = get_logger(__name__)

_RENEWALS = 3
"""Renewals in the life of a claim."""


class Term:
    """A name to claim in, and for how long its claims hold, by the monotonic clock."""

    __slots__ = ("_clock", "_until", "name")

    def __init__(self, until: float, clock: Callable[[], float] = monotonic) -> None:
        self.name = secrets.token_hex(8)
        self._until = until
        self._clock = clock

    @property
    def is_over(self) -> bool:
        """Whether its claims may be others' by now."""
        return self._clock() >= self._until

    def extend(self, until: float) -> None:
        """It was renewed. One that was over stays so: others may have acted on that."""
        if not self.is_over:
            self._until = until

    def end(self) -> None:
        """Its claims are to be made again."""
        self._until = -inf


class Claimant:
    """Keeps a term while it is wanted; ``life`` is the seconds that claims outlive this process."""

    def __init__(self, database: Database, life: float) -> None:
        self._database = database
        self._life = life
        self._term = Term(-inf)
        self._beginning = asyncio.Lock()
        self._complaints: set[str] = set()

    async def term(self) -> Term:
        """The term of now, begun if there is none. Raises ``StoreError``."""
        async with self._beginning:
            if self._term.is_over:
                term = Term(monotonic() + self._life)
                await begin_claimant(self._database, term.name, self._life)
                self._term = term
            return self._term

    async def run(self) -> None:
        """Renew for ever."""
        await steadily(self._renew_in_time, "renewing claims of texts")

    def renounce(self, error: Exception) -> None:
        """The cache cannot be used: say so once of each kind, and hold up nobody with claims that cannot be
        ended one by one."""
        self._term.end()
        code = error.sqlstate if isinstance(error, RowRefused) else type(error).__name__
        if code not in self._complaints:
            self._complaints.add(code)
            logger.error(
                "vector_cache_unusable",
                "the cache of vectors cannot be used ({code}), texts are embedded without it: run `embedq "
                "migrate`, and let the worker read and write embedq.vector_cache and embedq.vector_claimant",
                code=code,
            )

    async def leave(self) -> None:
        """Let all claims lapse now: this process asks for nothing any more."""
        term, self._term = self._term, Term(-inf)
        if not term.is_over:
            try:
                await end_claimant(self._database, term.name)
            except StoreError as error:
                sentence = "claims of texts are left to lapse by themselves: {reason}"
                logger.info("claims_left", sentence, reason=str(error))

    async def _renew_in_time(self) -> None:
        await asyncio.sleep(self._life / _RENEWALS)
        try:
            await insist(self._renew, "renewing claims of texts", self._database.outage)
        except StoreError as error:
            self.renounce(error)

    async def _renew(self) -> None:
        term, asked = self._term, monotonic()
        if term.is_over:
            return
        if await renew_claimant(self._database, term.name, self._life):
            term.extend(asked + self._life)
        else:
            term.end()
