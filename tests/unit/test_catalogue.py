"""The catalogue: what is known of each model, and what a user may say of it."""

from __future__ import annotations

import pickle
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.errors import ConfigurationError
from embedq_worker.catalogue import Catalogue, Model, count_characters, load_catalogue
from embedq_worker.catalogue.table import render
from embedq_worker.errors import BadDimensions, UnknownModel, WithdrawnModel

PAGE_MODELS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "togethercomputer/m2-bert-80M-2k-retrieval": 768,
    "togethercomputer/m2-bert-80M-8k-retrieval": 768,
    "togethercomputer/m2-bert-80M-32k-retrieval": 768,
    "BAAI/bge-base-en-v1.5": 768,
    "BAAI/bge-large-en-v1.5": 1024,
    "voyage-large-2-instruct": 1024,
    "voyage-finance-2": 1024,
    "voyage-multilingual-2": 1024,
    "voyage-law-2": 1024,
    "voyage-code-2": 1536,
    "voyage-large-2": 1536,
    "voyage-2": 1024,
    "textembedding-gecko@003": 768,
    "textembedding-gecko-multilingual@001": 768,
    "text-multilingual-embedding-002": 768,
}
NEWER_MODELS = {"alibaba/qwen-text-embedding-v3": 1024, "alibaba/qwen-text-embedding-v4": 1024}
WITHDRAWN = {name for name in PAGE_MODELS if "m2-bert" in name or "bge" in name or "gecko" in name}
NEEDS_NO_SOURCE = {"status_note", "sources"}


def test_all_models_of_the_page_and_the_newer_ones_are_there() -> None:
    """The catalogue has the page's 18 models and two newer ones, with their default sizes."""
    assert {model.id: model.dimensions for model in load_catalogue()} == PAGE_MODELS | NEWER_MODELS


def test_seven_models_are_withdrawn_and_say_what_to_do() -> None:
    """Exactly the withdrawn models are refused, each with a reason."""
    catalogue = load_catalogue()

    assert {model.id for model in catalogue if model.status == "withdrawn"} == WITHDRAWN
    for name in WITHDRAWN:
        with pytest.raises(WithdrawnModel, match=r"use text-.*base_url"):
            catalogue.usable(name)


def test_a_withdrawn_model_on_its_own_server_is_usable() -> None:
    """A base_url of its own makes a withdrawn model usable."""
    own = {"BAAI/bge-base-en-v1.5": {"base_url": "http://tei:8080/v1"}}
    catalogue = load_catalogue().overlay(own, "file")

    assert catalogue.usable("BAAI/bge-base-en-v1.5").base_url == "http://tei:8080/v1"


def test_every_fact_has_a_source_that_is_explained() -> None:
    """Each written fact names tags, and each tag is in [sources]; no tag is unused."""
    raw = tomllib.loads(resources.files("embedq_worker.catalogue").joinpath("catalogue.toml").read_text())
    used = set()
    for name, table in raw["models"].items():
        facts = set(table) - NEEDS_NO_SOURCE
        assert facts == set(table["sources"]) - NEEDS_NO_SOURCE, name
        used |= {tag for tags in table["sources"].values() for tag in tags}

    assert used == set(raw["sources"])


def test_aliases_name_one_model_each() -> None:
    """No name leads to two models, and every alias resolves to its own."""
    catalogue = load_catalogue()
    names = [name for model in catalogue for name in (model.id, *model.aliases)]

    assert len(names) == len(set(names))
    assert catalogue.get("openai/text-embedding-3-small").id == "text-embedding-3-small"
    assert all(catalogue.get(alias) is model for model in catalogue for alias in model.aliases)


def test_voyage_characters_are_capped_and_queries_are_documents() -> None:
    """The gateway's rule for Voyage: 8,000 characters alone, 800 in an array, input_type document only."""
    for model in load_catalogue():
        capped = (model.max_chars_alone, model.max_chars_in_array)
        assert capped == ((8_000, 800) if model.family == "voyage" else (None, None))
        if model.family == "voyage":
            assert model.document_parameters == model.query_parameters == {"input_type": "document"}


def test_default_dimensions_are_allowed() -> None:
    """A model's own default passes its own check."""
    for model in load_catalogue():
        model.check_dimensions(model.dimensions)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("text-embedding-3-small", (1, 256, 1536), (0, 1537, 3072)),
        ("text-embedding-ada-002", (1536,), (1535, 1537, 768)),
        ("text-multilingual-embedding-002", (1, 768), (769, -1)),
        ("text-embedding-v3", (1024, 768, 512), (2048, 64, 513)),
        ("text-embedding-v4", (2048, 64), (2560, 65)),
    ],
)
def test_dimensions_are_checked(name: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    """Sizes of a range, a list and a fixed size are told apart from others."""
    model = load_catalogue().get(name)
    for size in good:
        model.check_dimensions(size)
    for size in bad:
        with pytest.raises(BadDimensions, match=model.dimensions_in_words()):
            model.check_dimensions(size)


def test_an_unknown_model_names_what_was_meant_and_the_way_out() -> None:
    """A typo gets the close names and how to add a model."""
    with pytest.raises(UnknownModel, match=r"text-embedding-3-small.*EMBEDQ_CONFIG") as caught:
        load_catalogue().get("text-embeding-3-smal")

    assert "text-embedding-3-small" in caught.value.close


def test_a_new_model_needs_its_dimensions_only() -> None:
    """A user's model is plain unless said otherwise; a range of sizes can be given."""
    catalogue = load_catalogue().overlay(
        {
            "wordllama-256": {"dimensions": 256},
            "mine": {"dimensions": 64, "allowed_dimensions": {"min": 8, "max": 64}, "family": "openai"},
        },
        "file",
    )

    assert catalogue.get("wordllama-256") == Model(id="wordllama-256", dimensions=256)
    catalogue.get("mine").check_dimensions(8)
    assert "wordllama-256" not in load_catalogue()


def test_an_alias_in_the_users_file_means_the_model_itself() -> None:
    """Settings under an alias are the model's."""
    catalogue = load_catalogue().overlay({"openai/text-embedding-3-small": {"max_concurrency": 3}}, "file")

    assert catalogue.get("text-embedding-3-small").max_concurrency == 3
    assert len(catalogue) == len(load_catalogue())


@pytest.mark.parametrize("name", ["text-embedding-3-small", "new"])
def test_limits_are_the_users_to_set(name: str) -> None:
    """Limits can be set for a model of the catalogue and a new one; else nothing is limited by the minute."""
    facts = {} if name in load_catalogue() else {"dimensions": 8}
    limits: dict[str, object] = {"requests_per_minute": 6, "tokens_per_minute": 9, "concurrency": "fixed"}
    model = load_catalogue().overlay({name: {**facts, **limits}}, "file").get(name)
    plain = load_catalogue().get("voyage-2")

    assert {key: getattr(model, key) for key in limits} == limits
    assert (plain.requests_per_minute, plain.tokens_per_minute, plain.concurrency) == (None, None, "aimd")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"voyage-2": {"max_inputs": 129}}, "max_inputs = 129 is above the 128"),
        ({"voyage-2": {"max_inputs": 0}}, "max_inputs: Expected `int` >= 1"),
        ({"voyage-2": {"max_concurency": 1}}, "did you mean 'max_concurrency'"),
        ({"voyage-2": {"request_per_minute": 1}}, "did you mean 'requests_per_minute'"),
        ({"voyage-2": {"requests_per_minute": 0}}, "requests_per_minute: Expected `int` >= 1"),
        ({"voyage-2": {"tokens_per_minute": 0}}, "tokens_per_minute: Expected `int` >= 1"),
        ({"voyage-2": {"max_concurrency": 10**15}}, "max_concurrency: Expected `int` <= 1000000"),
        ({"voyage-2": {"concurrency": "none"}}, "concurrency: Invalid enum value 'none'"),
        ({"voyage-2": {"dimensions": 9}}, "dimensions is a fact of the catalogue"),
        ({"new": {"family": "plain"}}, "give at least dimensions"),
        ({"new": {"dimensions": "9"}}, "dimensions: Expected `int`"),
        ({"new": {"dimensions": 9, "famly": "x"}}, "did you mean 'family'"),
        ({"new": {"dimensions": 9, "family": "x"}}, "family: Invalid enum value"),
        ({"new": {"dimensions": 9, "tokens_per_byte": float("nan")}}, "tokens_per_byte: expected a number"),
        ({"new": {"dimensions": 9, "aliases": ["voyage-2"]}}, "'voyage-2' already names 'voyage-2'"),
        ({"voyage-2": {"max_inputs": 1}, "anthropic/voyage-2": {"max_inputs": 2}}, "has two tables"),
    ],
)
def test_wrong_settings_name_file_model_and_key(models: dict[str, dict[str, object]], message: str) -> None:
    """Every wrong overlay is refused with the file, the model and the key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_catalogue().overlay(models, "embedq.toml")

    assert 'embedq.toml: [models."' in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_characters_are_utf16_units(text: str) -> None:
    """The count equals the UTF-16 length, which the gateway's validator uses."""
    assert count_characters(text) == sum(2 if ord(character) > 0xFFFF else 1 for character in text)


@pytest.mark.parametrize(
    "error", [UnknownModel("a", ("b",)), WithdrawnModel("a", "gone."), BadDimensions("a", 3, "1 to 2")]
)
def test_errors_survive_pickling(error: Exception) -> None:
    """Errors cross process borders unchanged."""
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  our own bytes


def test_the_page_of_models_is_current() -> None:
    """docs/models.md is what the catalogue renders."""
    page = Path(__file__).parents[2] / "docs" / "models.md"

    assert page.read_text("utf-8") == render(load_catalogue())


def test_the_page_shows_every_model() -> None:
    """Each model has one row."""
    catalogue = load_catalogue()

    assert sum(line.startswith("| `") for line in render(catalogue).splitlines()) == len(catalogue)
    assert isinstance(catalogue, Catalogue)
