"""The local embeddings server, through OpenAI's own client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from embedq_worker.embedded import local_api
from embedq_worker.embedded.local_api import CUTS, DIMENSIONS, MAX_INPUTS, MODEL, Model

COMMAND = [sys.executable, "-m", "embedq_worker.embedded.local_api", "--port", "0"]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The base URL of a server in a process of its own, which cannot reach any network through a proxy."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            hello = json.loads(process.stdout.readline())
            assert hello["pid"] == process.pid
            yield hello["base_url"]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=base_url, api_key="x", max_retries=0) as made:
        yield made


def embed(client: openai.OpenAI, *texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Vectors as rows, by the client's default encoding (base64)."""
    answer = client.embeddings.create(model=MODEL, input=list(texts))
    return np.array([entry.embedding for entry in answer.data], dtype=np.float32)


def test_meaning_is_near_meaning(client: openai.OpenAI) -> None:
    """The model is a real one: a question is nearer to its answer than to anything else."""
    question, answer, other = embed(
        client,
        "How do I bake bread at home?",
        "Knead flour, water and yeast, let the dough rise, then put the loaf in the oven.",
        "The central bank raised its interest rates again.",
    )

    assert question @ answer > question @ other + 0.2


def test_vectors_are_unit_length_and_batches_do_not_matter(client: openai.OpenAI) -> None:
    """Each vector has length one and does not depend on its neighbours."""
    texts = ["short", "a rather longer text " * 50, "猫", " "]
    together = embed(client, *texts)

    assert together.shape == (4, DIMENSIONS)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-6)
    for row, text in zip(together, texts, strict=True):
        assert row == pytest.approx(embed(client, text)[0], abs=1e-6)


def test_the_vectors_are_wordllamas(client: openai.OpenAI) -> None:
    """They equal what the library's own pooling gives."""
    loaded = Model()
    loaded._tokenizer.enable_padding()
    from wordllama.inference import WordLlamaInference

    texts = ["how leases lapse", "another text of more words than the first one"]
    expected = WordLlamaInference(loaded._embedding, loaded._tokenizer).embed(texts, norm=True)

    assert embed(client, *texts) == pytest.approx(expected, abs=1e-6)


def test_floats_and_base64_agree(client: openai.OpenAI) -> None:
    """Both encodings carry the same float32s."""
    floats = client.embeddings.create(model=MODEL, input="leases", encoding_format="float")

    assert np.array_equal(np.asarray(floats.data[0].embedding, np.float32), embed(client, "leases")[0])


def test_usage_counts_real_tokens(client: openai.OpenAI) -> None:
    """``usage`` is the tokenizer's count, of all texts."""
    used = [
        client.embeddings.create(model=MODEL, input=given).usage.total_tokens
        for given in (["hello"], ["hello", "hello"], ["hello hello hello"])
    ]

    assert used == [1, 2, 3]


@pytest.mark.parametrize("dimensions", CUTS)
def test_the_models_own_cuts_are_served(client: openai.OpenAI, dimensions: int) -> None:
    """Fewer dimensions are the first ones, normalised."""
    answer = client.embeddings.create(model=MODEL, input="leases", dimensions=dimensions)
    cut = embed(client, "leases")[0][:dimensions]

    assert np.asarray(answer.data[0].embedding, np.float32) == pytest.approx(
        cut / np.linalg.norm(cut), abs=1e-6
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["fine", ""]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": ["x"] * (MAX_INPUTS + 1)}, "input"),
        ({"dimensions": 100}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_wrong_requests_name_the_field(client: openai.OpenAI, fields: dict[str, object], param: str) -> None:
    """A wrong request is a 400 in OpenAI's envelope that names the field."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/embeddings", body={"model": MODEL, "input": "x"} | fields, cast_to=object)

    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")


def test_another_model_is_a_404(client: openai.OpenAI) -> None:
    """The server has one model and says which."""
    with pytest.raises(openai.NotFoundError, match=MODEL) as raised:
        client.embeddings.create(model="text-embedding-3-small", input="x")

    assert raised.value.code == "model_not_found"


def test_what_is_not_json_is_a_400(client: openai.OpenAI) -> None:
    """A body that cannot be read is refused, not a server error."""
    with pytest.raises(openai.BadRequestError, match="not JSON"):
        client.post("/embeddings", content=b'{"model": "\xff', cast_to=object)


def test_a_request_that_is_too_large_is_a_413(client: openai.OpenAI) -> None:
    """The size of a request is bounded."""
    with pytest.raises(openai.APIStatusError) as raised:
        client.post("/embeddings", content=b" " * (local_api.MAX_REQUEST_BYTES + 1), cast_to=object)

    assert raised.value.status_code == 413


def test_a_very_long_text_is_one_vector(client: openai.OpenAI) -> None:
    """A text of a megabyte is embedded whole, in bounded memory."""
    long = embed(client, "bread and butter " * 60_000)[0]

    assert long == pytest.approx(embed(client, "bread and butter " * 1000)[0], abs=1e-3)


def test_models_and_health(client: openai.OpenAI) -> None:
    """The model is listed and the server is well."""
    assert [model.id for model in client.models.list()] == [MODEL]
    health = client.get("../health", cast_to=object)
    assert health == {"status": "ok", "model": MODEL}


def test_a_port_in_use_is_a_clear_error(base_url: str) -> None:
    """The message names the address and what to do."""
    port = base_url.split(":")[2].split("/")[0]

    done = subprocess.run([*COMMAND[:-1], port], capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
