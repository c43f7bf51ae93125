"""The models of a collection, and whom to ask for their vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedq_worker.catalogue import Model
from embedq_worker.engine.texts import Asker
from embedq_worker.store.collection import Collection


@dataclass(frozen=True, slots=True)
class ShadowModel:
    """The model that a collection moves to, or came from."""

    model: Model
    dimensions: int
    generation: int
    asker: Asker
    is_paused: Callable[[], bool]
    """Whether it is not called by any worker now."""


@dataclass(frozen=True, slots=True)
class Models:
    """As the registry says now. ``shadow`` is None also where this worker cannot use the shadow's model."""

    collection: Collection
    model: Model
    asker: Asker
    shadow: ShadowModel | None = None
