"""Metrics of the scheduler and of how well it serves functions."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from contract.store.scheduling import DECISION_BOUNDS_S, Decisions
from contract.store.telemetry import COMPUTE, TOTAL
from gateway.overview import Overview
from gateway.serving import refusals, served_of, utility_of, violations


def scheduling_metrics(overview: Overview) -> Iterator[Metric]:
    """Per function, and of decisions while a scheduler leads."""
    yield from _counters(overview)
    yield from _errors(overview)
    if overview.scheduling is not None:
        yield from _window(overview)
        yield from _decisions(overview.scheduling.decisions)


def _counters(overview: Overview) -> Iterator[Metric]:
    labels = ["function"]
    in_time = CounterMetricFamily(
        "fusebox_answered_in_time", "Jobs answered by their due time", labels=labels
    )
    missed = CounterMetricFamily(
        "fusebox_slo_violations",
        "Accepted jobs that were not answered by their due time, by how",
        labels=[*labels, "how"],
    )
    refused = CounterMetricFamily(
        "fusebox_function_refused", "Requests and jobs refused", labels=[*labels, "reason"]
    )
    for function in overview.functions:
        name, stats = function.name, overview.stats[function.name]
        answered = stats.get("jobs:succeeded", 0)
        in_time.add_metric([name], answered - stats.get("late", 0))
        for how, count in violations(stats).items():
            missed.add_metric([name, how], count)
        for reason, count in refusals(stats).items():
            refused.add_metric([name, reason], count)
    yield from (in_time, missed, refused)


def _errors(overview: Overview) -> Iterator[Metric]:
    """Of predicted times; relative to what was measured."""
    groups = GaugeMetricFamily(
        "fusebox_prediction_error_ratio",
        "|predicted - measured| / measured of the last groups: computing alone, and in total",
        labels=["time", "quantile"],
    )
    functions = GaugeMetricFamily(
        "fusebox_function_prediction_error_ratio",
        "The same of computing, of the last groups that a function was in",
        labels=["function", "quantile"],
    )
    for name, error in overview.prediction.items():
        family = groups if name in (COMPUTE, TOTAL) else functions
        family.add_metric([name, "0.5"], error.median)
        family.add_metric([name, "0.9"], error.p90)
    yield from (groups, functions)


def _window(overview: Overview) -> Iterator[Metric]:
    """Rates over the scheduler's window; `rate()` of the counters is as good over any other."""
    labels = ["function"]
    goodput = GaugeMetricFamily(
        "fusebox_goodput_per_second", "Answers by their due time, of late", labels=labels
    )
    useful = GaugeMetricFamily(
        "fusebox_utility",
        "ln(answers per second / (mean latency / SLO)), of late; none without answers or SLO",
        labels=labels,
    )
    for function in overview.functions:
        served = served_of(function, overview.scheduling)
        goodput.add_metric([function.name], served.goodput_per_s if served else 0.0)
        value = utility_of(function, overview.scheduling)
        if value is not None:
            useful.add_metric([function.name], value)
    yield from (goodput, useful)


def _decisions(decisions: Decisions) -> Iterator[Metric]:
    policy = GaugeMetricFamily("fusebox_policy", "1 for the policy in use", labels=["policy"])
    policy.add_metric([decisions.policy], 1)
    times = HistogramMetricFamily("fusebox_decision_seconds", "Calls of the policy, how long each")
    buckets, seen = [], 0
    for bound, count in zip((*DECISION_BOUNDS_S, "+Inf"), decisions.buckets, strict=True):
        seen += count
        buckets.append((str(bound), float(seen)))
    times.add_metric([], buckets, decisions.seconds)
    quantiles = GaugeMetricFamily(
        "fusebox_decision_quantile_seconds", "The same of the last calls", labels=["quantile"]
    )
    for quantile, value in (("0.5", decisions.p50_s), ("0.99", decisions.p99_s)):
        if value is not None:
            quantiles.add_metric([quantile], value)
    yield from (policy, times, quantiles)
    yield CounterMetricFamily("fusebox_dispatches", "Groups sent to workers", decisions.dispatches)
