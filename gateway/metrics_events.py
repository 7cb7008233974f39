"""Metrics of what the events process has before it: triggers, and ends that are yet to be told."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.overview import Overview


def event_metrics(overview: Overview) -> Iterator[Metric]:
    """Of the store at one moment."""
    triggers = GaugeMetricFamily("fusebox_triggers", "Triggers, by state", labels=["state"])
    for state, count in overview.triggers._asdict().items():
        triggers.add_metric([state], count)
    yield triggers
    yield GaugeMetricFamily(
        "fusebox_outbox_jobs", "Ended jobs that have no deliveries yet", overview.backlog.ended
    )
    yield GaugeMetricFamily(
        "fusebox_deliveries_waiting",
        "Deliveries that are to be tried, or tried again",
        overview.backlog.waiting,
    )
