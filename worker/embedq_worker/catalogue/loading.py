"""Read the catalogue that embedq ships, and lay the user's settings over it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from embedq.errors import ConfigurationError
from embedq_worker.catalogue.model import Model
from embedq_worker.errors import UnknownModel, WithdrawnModel
from embedq_worker.keys import check_keys, convert, similar

USER_KEYS = frozenset(
    {
        "max_concurrency",
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "max_inputs",
        "base_url",
        "api_key",
    }
)
"""What a user may set for a model whose facts the catalogue has."""
FACTS = frozenset(Model.__struct_fields__) - USER_KEYS - {"id", "sources", "texts_per_request"}
"""What a user may say of a model that the catalogue does not have; ``dimensions`` is required."""


class Catalogue:
    """Every model known, by id and alias.

    ``sources`` explains the tags that the models' ``sources`` use.
    """

    def __init__(self, models: Mapping[str, Model], sources: Mapping[str, str]) -> None:
        self.models = dict(models)
        self.sources = dict(sources)
        self._by_name = {name: model for model in models.values() for name in (model.id, *model.aliases)}

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())

    def __len__(self) -> int:
        return len(self.models)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Model:
        """Give the model of this id or alias; raise ``UnknownModel`` with the names that look like it."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownModel(name, similar(name, self._by_name, 3)) from None

    def usable(self, name: str) -> Model:
        """Like ``get``; raise ``WithdrawnModel`` for one that neither the API nor a server of its own has."""
        model = self.get(name)
        if model.status == "withdrawn" and model.base_url is None:
            raise WithdrawnModel(model.id, model.status_note)
        return model

    def overlay(self, settings: Mapping[str, Mapping[str, Any]], origin: str) -> Catalogue:
        """Give a catalogue with the user's settings, by the model's name.

        ``max_inputs`` can only be lowered. ``api_key`` is a ``Secret``; the caller reads its file.
        Raises ``ConfigurationError`` that names ``origin`` (the file) and the key.
        """
        models = dict(self.models)
        for name, values in settings.items():
            where = f'{origin}: [models."{name}"]'
            known = self._by_name.get(name)
            model = _add(name, values, where) if known is None else _adjust(known, values, where)
            if known is not None and models[model.id] is not known:
                raise ConfigurationError(
                    f"{where}: {model.id!r} has two tables; keep one, under any of its names"
                )
            models[model.id] = model
        _refuse_taken_aliases(models, origin)
        return Catalogue(models, self.sources)


@cache
def load_catalogue() -> Catalogue:
    """Give the catalogue that embedq ships; 18 models of the API's page and two newer ones."""
    text = resources.files("embedq_worker.catalogue").joinpath("catalogue.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    models = {id_: msgspec.convert({"id": id_, **facts}, Model) for id_, facts in raw["models"].items()}
    return Catalogue(models, raw["sources"])


def _adjust(model: Model, values: Mapping[str, Any], where: str) -> Model:
    for key in values:
        if key in FACTS:
            raise ConfigurationError(
                f"{where}: {key} is a fact of the catalogue and cannot be set; "
                "for a server that differs, add a model under its own name"
            )
    check_keys(values, USER_KEYS, where)
    adjusted = convert({"id": model.id, "dimensions": model.dimensions, **values}, Model, where)
    if "max_inputs" in values and adjusted.max_inputs > model.max_inputs:
        raise ConfigurationError(
            f"{where}: max_inputs = {adjusted.max_inputs} is above the {model.max_inputs} of the catalogue; "
            "lower it or leave it out"
        )
    changes = {key: getattr(adjusted, key) for key in values}
    if "max_inputs" in values:
        changes["texts_per_request"] = adjusted.max_inputs
    return msgspec.structs.replace(model, **changes)


def _add(name: str, values: Mapping[str, Any], where: str) -> Model:
    check_keys(values, FACTS | USER_KEYS, where)
    if "dimensions" not in values:
        raise ConfigurationError(
            f"{where}: the catalogue has no model of this name, so its facts are needed: give at least "
            "dimensions, or correct the name"
        )
    model = convert({"id": name, **values}, Model, where)
    wanted = model.max_inputs if "max_inputs" in values else model.texts_per_request
    return msgspec.structs.replace(model, texts_per_request=wanted)


def _refuse_taken_aliases(models: Mapping[str, Model], origin: str) -> None:
    owners: dict[str, str] = {}
    for model in models.values():
        for name in (model.id, *model.aliases):
            if owners.setdefault(name, model.id) != model.id:
                raise ConfigurationError(
                    f'{origin}: [models."{model.id}"]: {name!r} already names {owners[name]!r}; drop it'
                )
