"""The burial queue.

Dead letters on their way to Postgres. What they stand for is settled after the commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from embedq.contract import is_collection_name
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.errors import CollectionGone
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics.dead_letters import DEAD_LETTERS
from embedq_worker.store.dead_letters.burial import DeadLetter, bury, stripped
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

_AT_ONCE = 500


class BurialQueue:
    """Writes dead letters, many in a transaction.

    One that Postgres refuses is found by halves and stored in a plainer form. Where even that cannot be
    stored, an error is logged and the letter is given up, for those behind it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[DeadLetter, Callable[[], None]]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, letter: DeadLetter, buried: Callable[[], None]) -> None:
        """Bury a letter and call ``buried`` after the commit."""
        self._waiting.append((letter, buried))
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Bury for ever."""
        await steadily(self._bury_next, "burying dead letters")

    async def _bury_next(self) -> None:
        if not self._waiting:  # some are left where the step before failed
            self._arrived.clear()
            await self._arrived.wait()
        while self._waiting:
            batch = list(islice(self._waiting, _AT_ONCE))
            await self._bury_all([letter for letter, _ in batch])
            _count(letter for letter, _ in batch)
            for _, buried in batch:
                self._waiting.popleft()
                _call(buried)
        self._idle.set()

    async def finish(self) -> None:
        """Wait until everything that was added is buried."""
        await self._idle.wait()

    async def _bury_all(self, letters: Sequence[DeadLetter]) -> None:
        """One transaction; what is refused is found by halves."""
        try:
            await self._insist(letters)
        except Exception as error:  # Postgres, the driver, or a codec: all concern a letter
            if len(letters) == 1:
                await self._bury_stripped(letters[0], error)
            else:
                half = len(letters) // 2
                await self._bury_all(letters[:half])
                await self._bury_all(letters[half:])

    async def _bury_stripped(self, letter: DeadLetter, refusal: Exception) -> None:
        sentence = "a dead letter is stored in a plainer form after a {error}"
        logger.warning("dead_letter_stripped", sentence, error=type(refusal).__name__)
        try:
            await self._insist([stripped(letter)])
        except Exception as error:
            # By their types alone: what they say may quote the text.
            logger.error(
                "dead_letter_lost",
                "a dead letter of class {cause} is lost: it cannot be stored in any form ({error})",
                collection=letter.collection,
                cause=letter.cause,
                error=type(error).__name__,
            )

    async def _insist(self, letters: Sequence[DeadLetter]) -> None:
        """Do it until Postgres can; a table of ours that is missing comes with `embedq migrate`."""
        work = partial(bury, self._database, letters)
        await insist(work, "writing dead letters", self._database.outage, also=CollectionGone)


def _count(letters: Iterable[DeadLetter]) -> None:
    for (collection, cause), number in Counter((each.collection, each.cause) for each in letters).items():
        known = collection is not None and is_collection_name(collection)
        DEAD_LETTERS.labels(collection if known else "", cause).inc(number)


def _call(buried: Callable[[], None]) -> None:
    """An error of one message must not bury those behind it twice."""
    try:
        buried()
    except Exception as error:
        logger.error("message_not_finished", "a message could not be finished: {error}", **failure(error))
