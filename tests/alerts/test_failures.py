"""The table of failures: no alert and no deed of the chaos harness is left out, or it says why."""

from __future__ import annotations

from dataclasses import fields
from itertools import groupby

from embedq.testing.faults import FAULTS, NoFault
from tests.alerts.deeds import BEFORE, DOING
from tests.alerts.failures import API_FAILURES, DEEDS, NOT_CAUSED
from tests.alerts.queries import metrics_read
from tests.alerts.registered import registered
from tests.alerts.rules import read_rules
from tests.chaos.options import Options


def test_every_deed_of_the_chaos_harness_is_there() -> None:
    """Each has a time of its own among the options; that of cuts stands for two."""
    deeds = {each.name.removesuffix("_every") for each in fields(Options) if each.name.endswith("_every")}
    assert deeds <= {deed.name.partition(" ")[0] for deed in DEEDS}


def test_every_alert_is_caused() -> None:
    """By one of the failures, or it says why by none."""
    caused = {each.alert for each in (*API_FAILURES, *DEEDS)} - {None}
    assert not caused & NOT_CAUSED.keys()
    assert caused | NOT_CAUSED.keys() == {rule.name for rule in read_rules()}


def test_every_deed_can_be_done() -> None:
    """By its name; rows of one name follow one another, and none is an API failure's."""
    names = [name for name, _ in groupby(deed.name for deed in DEEDS)]
    assert names == list(DOING)
    assert BEFORE.keys() <= DOING.keys()
    assert not DOING.keys() & {failure.model for failure in API_FAILURES}


def test_every_fault_that_an_api_can_have_is_there() -> None:
    """Those of the chaos harness are among them."""
    assert {type(failure.fault) for failure in API_FAILURES} == set(FAULTS) - {NoFault}


def test_each_has_an_alert_that_exists_or_a_reason_for_none() -> None:
    """Nobody is told at once of what a client gets right vectors of, or what no call shows."""
    alerts = {rule.name for rule in read_rules()}
    for failure in API_FAILURES:
        assert (failure.alert in alerts) != bool(failure.why), failure.model
        assert failure.alert is None or not failure.fault.usable, failure.model
    assert {deed.alert for deed in DEEDS} <= alerts


def test_each_moves_a_metric_that_exists() -> None:
    """By name and labels."""
    for query in [each.metric for each in (*API_FAILURES, *DEEDS)]:
        for name, labels in metrics_read(query).items():
            assert labels <= registered()[name], query
