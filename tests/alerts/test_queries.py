"""What is read out of a query, so that the checks against the registry are worth something."""

from __future__ import annotations

import pytest

from tests.alerts.queries import metrics_read


def test_a_selector_names_its_metric_and_labels() -> None:
    """With a range and without."""
    assert metrics_read('a{x="1"}') == {"a": {"x"}}
    assert metrics_read('rate(a{x=~"1|2",instance="i"}[5m])') == {"a": {"x"}}


def test_labels_of_an_aggregation_are_asked_of_all_below() -> None:
    """Also through functions and histograms."""
    query = "histogram_quantile(0.9, sum by (le, x) (rate(a_bucket[5m])))"
    assert metrics_read(query) == {"a_bucket": {"x"}}
    assert metrics_read("sum by (x) (a / b)") == {"a": {"x"}, "b": {"x"}}


def test_labels_of_a_match_are_asked_of_both_sides() -> None:
    """And not of what stands beside them."""
    query = "sum(c) + (a unless on (x) max by (x, y) (b))"
    assert metrics_read(query) == {"a": {"x"}, "b": {"x", "y"}, "c": set()}


def test_a_filter_is_asked_for_the_labels_of_its_match_alone() -> None:
    """It gives none to what is above it; the other side does."""
    query = "sum by (y) (a) unless on (x) (max by (x, z) (b) and on (z) max by (z) (c))"
    assert metrics_read(query) == {"a": {"x", "y"}, "b": {"x", "z"}, "c": {"z"}}
    assert metrics_read("sum by (y) (a * on (x) b)") == {"a": {"x", "y"}, "b": {"x", "y"}}


def test_subqueries_are_read() -> None:
    """A rule has one."""
    assert metrics_read("count_over_time((sum by (x) (a) > 0)[5m:15s])") == {"a": {"x"}}


def test_what_is_no_query_is_refused() -> None:
    """Rather than read as nothing."""
    with pytest.raises(ValueError, match="unclosed"):
        metrics_read("sum by (x (a)")
