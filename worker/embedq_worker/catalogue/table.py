"""The catalogue as a page for people: ``docs/models.md``."""

from __future__ import annotations

from embedq_worker.catalogue.loading import Catalogue
from embedq_worker.catalogue.model import Model

_HEAD = """\
# Models

Made from `worker/embedq_worker/catalogue/catalogue.toml` by
`python -m embedq_worker.catalogue.table > docs/models.md`; a test fails when this page is older than the
catalogue. Add models of your own in the file that `EMBEDQ_CONFIG` names.

Limits are those of the service, and embedq keeps to them. "Tokens" and "characters" are of one text; "alone"
is a text that is the only one of its request, "in array" one of several. Prices are the provider's list
prices in US dollars per million tokens; what the gateway charges is not published. A withdrawn model needs a
`base_url` of its own.

"""
_COLUMNS = (
    "model",
    "other names",
    "dimensions",
    "tokens",
    "characters alone / in array",
    "texts a request",
    "tokens a request",
    "base64",
    "unit length",
    "price",
    "status",
)  # fmt: skip  a column a word


def render(catalogue: Catalogue) -> str:
    """Give the page as Markdown."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(_row(model) for model in catalogue)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    tags = "".join(f"- **{tag}**: {title}\n" for tag, title in catalogue.sources.items())
    return f"{_HEAD}{table}\n## Sources\n\n{tags}"


def _row(model: Model) -> tuple[str, ...]:
    return (
        f"`{model.id}`",
        ", ".join(f"`{alias}`" for alias in model.aliases),
        _dimensions(model),
        f"{model.max_tokens:,}",
        _characters(model),
        f"{model.max_inputs:,}",
        f"{model.max_request_tokens:,}",
        "yes" if model.base64 else "no",
        {True: "yes", False: "no", None: "unknown"}[model.unit_length],
        "unknown" if model.usd_per_million_tokens is None else f"{model.usd_per_million_tokens:g}",
        model.status if model.status == "listed" else f"withdrawn: {model.status_note}",
    )


def _dimensions(model: Model) -> str:
    if not model.takes_dimensions:
        return f"{model.dimensions}"
    return f"{model.dimensions} ({model.dimensions_in_words()})"


def _characters(model: Model) -> str:
    if model.max_chars_alone is None and model.max_chars_in_array is None:
        return ""
    return f"{model.max_chars_alone or '-'} / {model.max_chars_in_array or '-'}"


if __name__ == "__main__":
    import sys

    from embedq_worker.catalogue.loading import load_catalogue

    sys.stdout.write(render(load_catalogue()))
