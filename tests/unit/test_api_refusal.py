"""Classifying refusals: every envelope that is known, and none of their prose."""

from __future__ import annotations

import json
import pickle
import traceback
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.api.refusal import classify
from embedq_worker.errors import ApiError, BadInput, Refused, Transient

PROSE = "the private text of a customer"


def problem(status: int, name: str, **more: object) -> dict[str, object]:
    """AI/ML API's envelope of 2026."""
    error = {"name": name, "message": PROSE, **more}
    return {"title": PROSE, "status": status, "message": PROSE, "requestId": "1", "error": error}


def openai(
    code: object, kind: str | None = None, param: str | None = None, message: str = PROSE
) -> dict[str, object]:
    """OpenAI's envelope."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


ZOD = [{"code": "too_big", "path": ["input", 3], "message": PROSE}]
FASTAPI = {"detail": [{"type": "missing", "loc": ["body", "input", 0], "msg": PROSE, "input": PROSE}]}
GOOGLE = {
    "error": {
        "code": 400,
        "message": PROSE,
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}, {"message": PROSE}],
    }
}
LITELLM_MODEL = "/embeddings: Invalid model name passed in model=text-3. Call `/v1/models` to view them."
KEY_DIGEST = "c0ffee" * 10 + "beef"
TOO_LARGE = "input (900 tokens) is too large to process. increase the physical batch size"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "parameter"),
    [
        (401, problem(401, "UnauthorizedException"), Refused, "UnauthorizedException", None),
        (400, problem(400, "BadRequestException", data=ZOD), BadInput, "too_big", "input.3"),
        (400, problem(400, "B_", data=[{"code": "bad", "path": ["model"]}]), Refused, "bad", "model"),
        (
            403,
            problem(403, "ForbiddenException", data={"kind": "err_insufficent_credits"}),
            Refused,
            "err_insufficent_credits",
            None,
        ),
        (
            429,
            {"message": PROSE, "path": "/v1", "requestId": "1", "statusCode": "429"},
            Transient,
            None,
            None,
        ),
        (429, openai("insufficient_quota", "insufficient_quota"), Refused, "insufficient_quota", None),
        (429, openai("rate_limit_exceeded", "requests"), Transient, "rate_limit_exceeded", None),
        (429, openai("429", "rate_limited"), Transient, "rate_limited", None),
        (400, openai("max_tokens_per_request", "x"), BadInput, "max_tokens_per_request", None),
        (400, openai(None, "invalid_request_error", "input"), BadInput, "invalid_request_error", "input"),
        (400, openai(400, "BadRequestError", "dimensions"), Refused, "BadRequestError", "dimensions"),
        (400, openai("invalid_api_key"), Refused, "invalid_api_key", None),
        (400, openai("billing_hard_limit_reached"), Refused, "billing_hard_limit_reached", None),
        (400, openai("400", "budget_exceeded"), Refused, "budget_exceeded", None),
        (429, openai("429", "budget_exceeded"), Refused, "budget_exceeded", None),
        (400, openai("400", "expired_key", KEY_DIGEST), Refused, "expired_key", None),
        (400, openai("Arrearage"), Refused, "Arrearage", None),
        (400, [GOOGLE], Refused, "API_KEY_INVALID", None),
        (400, GOOGLE, Refused, "API_KEY_INVALID", None),
        (400, openai("400", "None", "None", f"{LITELLM_MODEL} {PROSE}"), Refused, None, None),
        (400, {"detail": {"error": LITELLM_MODEL}}, Refused, None, None),
        (400, {"errors": [{"code": 5007, "message": "AiError: No such model @cf/x"}]}, Refused, None, None),
        (404, openai("model_not_found"), Refused, "model_not_found", None),
        (
            400,
            {"object": "error", "message": PROSE, "type": "BadRequestError", "code": 400},
            BadInput,
            "BadRequestError",
            None,
        ),
        (413, {"message": PROSE, "code": 413, "type": "Validation"}, BadInput, "Validation", None),
        (422, {"error": PROSE, "error_type": "Tokenizer"}, BadInput, "Tokenizer", None),
        (422, FASTAPI, BadInput, "missing", "input.0"),
        (424, {"message": PROSE, "type": "Backend"}, Transient, "Backend", None),
        (400, {"detail": PROSE}, BadInput, None, None),
        (400, {"error": PROSE}, BadInput, None, None),
        (500, openai(500, "server_error", message=TOO_LARGE), BadInput, "server_error", None),
        (500, {"error": "This model's maximum context length is 8192"}, BadInput, None, None),
        (503, {"message": "exceeds the context length"}, BadInput, None, None),
        (500, {"detail": "Input is TOO LARGE TO PROCESS"}, BadInput, None, None),
        (500, {"message": PROSE * 20 + TOO_LARGE}, Transient, None, None),
        (500, openai("insufficient_quota"), Transient, "insufficient_quota", None),
        (500, [openai("a_code")], Transient, "a_code", None),
        (503, openai(PROSE, PROSE, PROSE), Transient, None, None),
        (
            503,
            {"error": {"code": ["a"], "type": {"b": 1}, "param": 3, "data": [], "name": None}},
            Transient,
            None,
            None,
        ),
    ],
)  # fmt: skip  a row a case
def test_known_envelopes(
    status: int, body: object, kind: type[ApiError], code: str | None, parameter: str | None
) -> None:
    """Class, code and parameter of every envelope that a server is known to send."""
    error = classify(status, json.dumps(body).encode(), {})

    assert (type(error), error.status, error.code, error.parameter) == (kind, status, code, parameter)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert PROSE not in shown


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 524, 529, 599), Transient),
        ((300, 301, 302, 307, 308, 401, 402, 403, 404, 405, 407, 410, 415, 431, 451), Refused),
        ((400, 413, 422), BadInput),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"html", b"null", b"[]", b"3", b'"too large to process"', b"\xff", b"[" * 9_999]
)
def test_a_status_is_enough(statuses: tuple[int, ...], kind: type[ApiError], body: bytes) -> None:
    """Without a readable body the status alone decides."""
    for status in statuses:
        error = classify(status, body, {})
        assert (type(error), error.code, error.parameter) == (kind, None, None), status


DATES = st.text(max_size=20) | st.datetimes().map(format_datetime) | st.datetimes().map(str)


@given(st.integers(300, 599), st.binary(max_size=50), DATES, DATES)
def test_nothing_breaks_the_classifier(status: int, body: bytes, header: str, date: str) -> None:
    """Whatever comes, it is an ApiError with its status."""
    headers = {"retry-after": header, "retry-after-ms": header, "date": date}
    assert classify(status, body, headers).status == status


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "data", "detail", "code", "path", "param"]), inner, max_size=3
        )
    ),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [("banana", "banana"), ("a Banana split", "banana"), ("Banana ", "invalid_banana"), ("nana", "Banana")],
)
def test_a_name_that_a_text_could_have_given_is_left_out(text: str, name: str) -> None:
    """Whether it is a word of the text, or has the text in it; in every envelope."""
    for body in (
        openai(name, None, name),
        openai(None, name, f"input.{name}"),
        problem(400, name, data=[{"code": name, "path": ["input", name]}]),
        {"detail": [{"type": name, "loc": ["body", name]}]},
    ):
        error = classify(400, json.dumps(body).encode(), {}, ["another", text])

        assert (type(error), error.code, error.parameter) == (BadInput, None, None)
        assert name not in f"{error} {error!r}"


def test_what_is_known_stays_whatever_the_texts_say() -> None:
    """And so does an unknown name that is in no text; of two, the one that is known."""
    body = openai("Context_Length_Exceeded", "x", "input[3]")
    error = classify(400, json.dumps(body).encode(), {}, ["input context_length_exceeded"])
    assert (type(error), error.code, error.parameter) == (BadInput, "Context_Length_Exceeded", "input[3]")
    assert error.is_too_long
    body = openai("new_code", None, "new_field")
    assert vars(classify(400, json.dumps(body).encode(), {}, ["a text"])) == vars(
        BadInput(400, "new_code", "new_field")
    )
    body = openai("banana", "invalid_request_error", "input.banana")
    assert vars(classify(400, json.dumps(body).encode(), {}, ["banana"])) == vars(
        BadInput(400, "invalid_request_error")
    )


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (422, Refused), (413, BadInput), (403, Refused), (502, Transient)]
)
@pytest.mark.parametrize(
    "page",
    [
        b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
        b"\r\n<!DOCTYPE html><html>",
        b'<?xml version="1.0"?>',
    ],
)
def test_a_page_is_not_about_a_text(status: int, kind: type[ApiError], page: bytes) -> None:
    """A proxy wrote it, or another server than was meant: no text dies of it, unless it is too large."""
    assert type(classify(status, page, {}, ["a text"])) is kind


@pytest.mark.parametrize(
    "message",
    [
        "API key not valid. Please pass a valid API key.",
        "Budget has been exceeded! Current cost: 2.5, Max budget: 2.0",
        "Model voyage-9.5 is not supported. Supported models are ['voyage-3']",
        "[address=0.0.0.0:1, pid=92] Model not found, uid: gte-2",
        "openai/small is not a valid model ID",
        "Model 'm' does not support matryoshka representation",
        "Insufficient balance",
    ],
)
def test_prose_that_is_about_us(message: str) -> None:
    """Gateways say it under 400, to each text; but where a text has the words, it may be quoted."""
    body = json.dumps(openai(None, "invalid_request_error", message=message)).encode()
    assert type(classify(400, body, {}, ["a text of models and keys"])) is Refused
    assert type(classify(413, body, {})) is BadInput
    assert type(classify(400, body, {}, [f"They told me: {message.upper()}"])) is BadInput


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens; longer inputs are not supported",
        "The response was filtered by the model's content management policy",
        "Invalid value for input.3",
    ],
)
def test_prose_that_is_about_the_text(message: str) -> None:
    """Though it has some of the same words."""
    assert type(classify(400, json.dumps(openai(None, message=message)).encode(), {})) is BadInput


@given(st.integers(300, 599), JSON)
def test_no_envelope_breaks_the_classifier(status: int, envelope: object) -> None:
    """Whatever JSON comes, it is an ApiError with its status."""
    assert classify(status, json.dumps(envelope).encode(), {}).status == status


@pytest.mark.parametrize("status", [302, 401, 402, 403, 404, 429, 400, 500])
def test_messages_say_what_happened_and_what_to_do(status: int) -> None:
    """The message has the status, the model, the code and an advice."""
    error = classify(
        status, json.dumps(openai("insufficient_quota" if status == 429 else "a_code")).encode(), {}
    )
    error.model = "m"

    assert all(
        part in str(error) for part in (f"status {status}", "model 'm'", f"code {error.code}", error.advice())
    )


def test_an_error_survives_pickling() -> None:
    """Its facts cross process borders."""
    error = Refused(403, "a_code", "input", 2.5)
    error.model = "m"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes

    assert (type(copy), vars(copy), str(copy)) == (Refused, vars(error), str(error))


def test_an_error_without_facts_still_has_a_message() -> None:
    """A bare error is a sentence too."""
    assert "no details" in str(Transient())
    assert "status" in str(ApiError(500))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("context_length_exceeded")),
        (
            400,
            openai(
                None, "invalid_request_error", message="This model's maximum context length is 8192 tokens"
            ),
        ),
        (400, openai("400", "BadRequestError", message="litellm.ContextWindowExceededError: context window")),
        (413, {"message": "x", "type": "validation"}),
        (422, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 900"}),
        (400, problem(400, "BadRequestException", data=ZOD)),
        (500, openai(500, message=TOO_LARGE)),
    ],
)
def test_refusals_that_say_too_long(status: int, body: object) -> None:
    """However a service says it."""
    assert classify(status, json.dumps(body).encode(), {}).is_too_long


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, problem(400, "BadRequestException", data=[{"code": "custom", "path": ["input"]}])),
        (400, openai("content_filter")),
        (422, FASTAPI),
        (401, openai("invalid_api_key", message="the key is too long")),
        (503, openai(None, message="too many tokens in flight")),
    ],
)
def test_refusals_that_do_not(status: int, body: object) -> None:
    """Nor do those that are not about the text."""
    assert not classify(status, json.dumps(body).encode(), {}).is_too_long
