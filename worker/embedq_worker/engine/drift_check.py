"""The drift check: fixed texts are embedded again and again, and compared with the model's first vectors.

A gateway that serves another model under the same name gives vectors of the right size, and no error. Each
process looks what is due; of a fleet one does it, in the usual way: in its turn, under the limits, with
retries, and not while the model is paused. The cache of vectors is left out: it would hide what is looked
for.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Iterable
from importlib.resources import files
from math import inf
from time import monotonic, time
from typing import NamedTuple

from embedq_worker.catalogue import Model
from embedq_worker.engine.cache.caches import kind_of
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.directory import Served
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Vector, content_hash
from embedq_worker.errors import ApiError, DatabaseAway, NotCalled, RightsMissing, StoreError
from embedq_worker.limiter import Flow
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics import drift
from embedq_worker.settings import Settings
from embedq_worker.store.drift import DriftState, Finding, claim_check, end_check, read_states
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

logger = get_logger(__name__)

FLOW = Flow("bulk", "(drift)")
"""Whose turn a check takes: no collection can have the name."""
_ROUND = 2.0
"""Seconds between two looks at what is due."""
_AT_FIRST = 300.0
"""Seconds from the start in which a process checks only what somebody asks for: who starts has other work."""
_LOOK = 0.5
"""Seconds between two looks whether a check is still worth waiting for."""
_PATIENCE = 540.0
"""Seconds that a check waits for its vectors."""
_CLAIM = 600.0
"""Seconds until a check that came to nothing is tried again, by whoever comes first."""


class Sized(NamedTuple):
    """A model at one size of its vectors."""

    model: str
    dimensions: int


class DriftCheck:
    """Checks the models of the collections that are served, and those that they move to.

    ``served`` gives these collections, ``dispatcher_of`` who calls a model.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        served: Callable[[], Iterable[Served]],
        dispatcher_of: Callable[[Model], Dispatcher],
    ) -> None:
        self._settings = settings
        self._database = database
        self._served = served
        self._dispatcher_of = dispatcher_of
        self._texts = read_texts()
        self._every = settings.worker.drift_hours * 3600
        self._begins = monotonic() + min(_AT_FIRST, self._every)
        self._checks: dict[Sized, asyncio.Task[None]] = {}
        self._is_over = False
        self._complaint: str | None = None
        """Why there are no states, once that was said."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The checks under way."""
        return list(self._checks.values())

    async def run(self) -> None:
        """Look for ever."""
        await steadily(self._look_and_sleep, "looking for drift")

    def let_go(self) -> None:
        """The process ends: no check begins, and none is waited for."""
        self._is_over = True
        for task in self._checks.values():
            task.cancel()

    async def _look_and_sleep(self) -> None:
        models = self._in_use()
        if models and not self._is_over:
            await self._look(models)
        await asyncio.sleep(min(_ROUND, self._every / 2 or _ROUND) if models else _LOOK)

    def _in_use(self) -> dict[Sized, Model]:
        models = {}
        for each in self._served():
            models[Sized(each.model.id, each.collection.dimensions)] = each.model
            if each.shadow is not None and each.collection.shadow is not None:
                models[Sized(each.shadow.id, each.collection.shadow.dimensions)] = each.shadow
        return models

    async def _look(self, models: dict[Sized, Model]) -> None:
        try:
            states = await read_states(self._database, self._every)
            self._complaint = None
            _measure(states)
            drift.OVERDUE.replace(self._overdue(states))
            for state in states:
                if (model := models.get(_sized(state))) and self._is_to_do(state, model):
                    await self._begin(state, model)
        except StoreError as error:
            self._complain(error)

    def _overdue(self, states: Iterable[DriftState]) -> dict[tuple[str, ...], float]:
        """For how long each model's check has been due: of its sizes the longest."""
        overdue: dict[tuple[str, ...], float] = {}
        if self._every > 0:
            for state in states:
                model = (state.model,)
                overdue[model] = max(overdue.get(model, 0.0), self._since_due(state))
        return overdue

    def _since_due(self, state: DriftState) -> float:
        if state.checked_at is None:  # since this process might have been the first
            return monotonic() - self._begins
        return time() - state.checked_at.timestamp() - self._every

    def _is_to_do(self, state: DriftState, model: Model) -> bool:
        in_turn = self._every > 0 and state.is_due and monotonic() >= self._begins
        if not (in_turn or state.is_wanted) or state.is_claimed or _sized(state) in self._checks:
            return False
        return not self._dispatcher_of(model).is_paused

    async def _begin(self, state: DriftState, model: Model) -> None:
        if not await claim_check(self._database, state, _CLAIM) or self._is_over:
            return
        task = self._checks[_sized(state)] = asyncio.create_task(self._check(state, model))
        task.add_done_callback(lambda _: self._checks.pop(_sized(state), None))

    async def _check(self, state: DriftState, model: Model) -> None:
        shape = Shape(state.dimensions, "document")
        parameters = kind_of(model, shape, self._settings.api_base_url).parameters
        try:
            vectors = await self._embed(self._dispatcher_of(model), shape)
            allowed = self._settings.worker.drift_distance
            finding = await end_check(self._database, state, vectors, parameters, allowed)
        except (ApiError, StoreError) as error:
            logger.warning(
                "drift_unchecked",
                "model {model} was not checked for drift, again in {seconds:.0f} s: {reason}",
                model=model.id,
                seconds=_CLAIM,
                reason=str(error),
            )
        except Exception as error:
            sentence = "a drift check of model {model} failed in our own code"
            logger.error("drift_check_failed", sentence, model=model.id, **failure(error))
        else:
            self._say(state, finding)

    async def _embed(self, dispatcher: Dispatcher, shape: Shape) -> dict[bytes, Vector]:
        """The vectors of the fixed texts, by their hashes. Raises ``ApiError``."""
        waiting = {content_hash(text): _Waiting() for text in self._texts}
        for text, (key, waiter) in zip(self._texts, waiting.items(), strict=True):
            dispatcher.ask(key, text, shape, FLOW, waiter)
        until = monotonic() + _PATIENCE
        try:
            while any(not waiter.came.done() for waiter in waiting.values()):
                await asyncio.wait([waiter.came for waiter in waiting.values()], timeout=_LOOK)
                if dispatcher.is_paused:
                    raise NotCalled("paused", "the model is paused; `embedq status` says why")
                if monotonic() > until:
                    raise NotCalled("abandoned", "it was not its turn for long; see `embedq status`")
            return {key: waiter.vector() for key, waiter in waiting.items()}
        finally:
            for waiter in waiting.values():
                waiter.came.cancel()
            dispatcher.let_go()

    def _say(self, state: DriftState, finding: Finding) -> None:
        if finding.drifts and not finding.did_drift:
            logger.error(
                "model_drifts",
                "model {model} drifts: its vectors of fixed texts are up to {distance:.2g} (cosine distance) "
                "from its first ones, {allowed:g} is allowed; {why}, and new rows do not fit old ones; see "
                "`embedq drift list` and docs/drift.md",
                model=state.model,
                distance=finding.distance,
                allowed=self._settings.worker.drift_distance,
                why="its address or settings are other than then"
                if finding.is_changed_here
                else "nothing was changed here, so that the service gives another model",
            )
        elif finding.did_drift and not finding.drifts:
            sentence = "model {model} drifts no more: its vectors are its first ones again"
            logger.warning("drift_over", sentence, model=state.model)

    def _complain(self, error: StoreError) -> None:
        """Once, and not of what everybody waits for, who say so."""
        if isinstance(error, DatabaseAway) and not isinstance(error, RightsMissing):
            return
        if str(error) != self._complaint:
            sentence = "models are not checked for drift; run `embedq migrate`: {reason}"
            logger.warning("drift_unknown", sentence, reason=str(error))
        self._complaint = str(error)


class _Waiting:
    """Waits for one vector. What it costs is nobody's but the check's."""

    source: str | None = None
    spans: Spans = ()
    purpose: UsagePurpose = "drift"

    def __init__(self) -> None:
        self.came: asyncio.Future[Vector | ApiError] = asyncio.get_running_loop().create_future()

    @property
    def is_gone(self) -> bool:
        return self.came.cancelled()

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002 # a waiter's signature
        if not self.came.done():
            self.came.set_result(vector)

    def refused(self, error: ApiError, attempts: int) -> None:  # noqa: ARG002 # a waiter's signature
        if not self.came.done():
            self.came.set_result(error)

    def vector(self) -> Vector:
        """It has come. Raises ``ApiError`` where it will not."""
        came = self.came.result()
        if isinstance(came, ApiError):
            raise came
        return came


def _measure(states: Iterable[DriftState]) -> None:
    """For Prometheus: of each model the worst of its sizes."""
    distances: dict[tuple[str, ...], float] = {}
    found: dict[tuple[str, ...], float] = {}
    checked: dict[tuple[str, ...], float] = {}
    for state in states:
        if state.checked_at is None or state.distance is None:
            continue
        model = (state.model,)
        distances[model] = max(distances.get(model, 0.0), state.distance)
        found[model] = max(found.get(model, 0.0), float(state.drifts_since is not None))
        checked[model] = min(checked.get(model, inf), state.checked_at.timestamp())
    drift.DISTANCE.replace(distances)
    drift.FOUND.replace(found)
    drift.CHECKED.replace(checked)


def _sized(state: DriftState) -> Sized:
    return Sized(state.model, state.dimensions)


def read_texts() -> list[str]:
    """The fixed texts, in the order of their file."""
    text = files(__package__).joinpath("drift_texts.toml").read_text("utf-8")
    texts: list[str] = tomllib.loads(text)["texts"]
    return texts
