"""What the end of a call means for its model's limits."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.allowance import Allowance
from embedq_worker.api.response import Answer
from embedq_worker.engine.calling.verdicts import outcome_of, outcome_of_answer
from embedq_worker.engine.texts import WaitingText
from embedq_worker.errors import ApiError, BadInput, MalformedAnswer, MalformedCode, Refused, Transient
from embedq_worker.limiter import Flow
from tests.support.dispatching import Waiter


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (BadInput(400), "neutral"),
        (BadInput(413), "neutral"),
        (BadInput(422), "neutral"),
        (Refused(401), "refused"),
        (Refused(403), "refused"),
        (Refused(404), "refused"),
        (Refused(429, "insufficient_quota"), "refused"),
        (Transient(429), "throttled"),
        (Transient(503), "overloaded"),
        (Transient(code="timeout"), "overloaded"),
        (Transient(200, code="timeout"), "overloaded"),
        (Transient(code="connect_timeout"), "failed"),
        (Transient(500), "failed"),
        (Transient(code="reset"), "failed"),
        *[(MalformedAnswer(code), "failed") for code in get_args(MalformedCode)],
    ],
    ids=str,
)
def test_each_error_has_its_verdict(error: ApiError, verdict: str) -> None:
    """A quota that is used up is no throttling: waiting does not help."""
    assert outcome_of(error).verdict == verdict


@pytest.mark.parametrize(
    "error",
    [Refused(401), Refused(404), Transient(500), Transient(503), Transient(code="timeout"), Transient()],
    ids=str,
)
def test_what_may_pause_a_model_says_what_to_do(error: ApiError) -> None:
    """It is all that a person who looks at a paused model sees."""
    why = outcome_of(error).why
    assert any(word in why for word in ("check", "look at"))
    assert ";" in why


def test_throttling_is_said_in_a_few_words() -> None:
    """It is seen as the reason of a lower limit."""
    assert outcome_of(Transient(429)).why == "the service answered 429"


def test_what_the_service_wishes_goes_along() -> None:
    """In milliseconds; none where it wishes nothing, also where the wish is no time at all."""
    error = Transient(429, retry_after=1.5)
    error.allowance = Allowance(remaining_requests=0)
    outcome = outcome_of(error)
    assert outcome.cool == 1500
    assert outcome.allowance == error.allowance
    assert outcome.tokens is None
    assert outcome_of(Transient(429, retry_after=0)).cool == 0
    assert outcome_of(Transient(429)).cool is None


texts = st.lists(
    st.builds(
        lambda length, tokens, name: WaitingText(
            b"", "x" * length, tokens, 0.0, Flow("bulk", name), Waiter()
        ),
        st.integers(1, 500),
        st.integers(1, 500),
        st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=30,
)


@given(texts, st.none() | st.integers(0, 10_000))
def test_the_collections_shares_add_up(texts: list[WaitingText], tokens: int | None) -> None:
    """To what the service counted, or to the estimate where it counts nothing: no request has no tokens."""
    allowance = Allowance(remaining_tokens=5)
    outcome = outcome_of_answer(texts, Answer(np.ones((len(texts), 4), np.float32), tokens, allowance))
    assert outcome.verdict == "answered"
    assert outcome.tokens == (tokens or None)
    assert outcome.allowance == allowance
    assert outcome.shares is not None
    assert outcome.shares.keys() == {text.flow.collection for text in texts}
    assert sum(outcome.shares.values()) == (tokens or sum(text.tokens for text in texts))
    assert min(outcome.shares.values()) >= 0
