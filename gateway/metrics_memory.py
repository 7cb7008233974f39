"""Metrics of each function in each worker's memory: tiers, loads, evictions, ages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from contract.store.workers import FunctionMemory, WorkerReport

_LABELS = ("worker", "function")
Loads = Callable[[FunctionMemory], tuple[float, float]]
# with a label `source`: of loads from host memory, and from disk
_BY_SOURCE: tuple[tuple[str, str, Loads], ...] = (
    ("fusebox_function_loads", "Times a function was swapped in",
     lambda m: (m.loads - m.disk_loads, m.disk_loads)),
    ("fusebox_function_load_seconds", "Seconds that swapping in took",
     lambda m: (m.load_s - m.disk_load_s, m.disk_load_s)),
)  # fmt: skip
_COUNTERS: tuple[tuple[str, str, Callable[[FunctionMemory], float]], ...] = (
    ("fusebox_function_evictions", "Times a function was evicted", lambda m: m.evictions),
    ("fusebox_function_thrash", "Loads that followed an eviction too soon", lambda m: m.thrash),
)
# sums over evictions
_AGES: tuple[tuple[str, str, Callable[[FunctionMemory], float]], ...] = (
    ("fusebox_function_idle_at_eviction_seconds", "Age at eviction, since the last use",
     lambda m: m.idle_s),
    ("fusebox_function_resident_at_eviction_seconds", "Age at eviction, since it came in",
     lambda m: m.stayed_s),
)  # fmt: skip


def memory_metrics(workers: Iterable[WorkerReport]) -> Iterator[Metric]:
    """Of the functions that the workers were last asked for."""
    found = [([w.id, key], one) for w in workers for key, one in w.memory.items()]
    host = GaugeMetricFamily(
        "fusebox_function_host_bytes", "Weights in host memory, estimated", labels=_LABELS
    )
    for labels, one in found:
        host.add_metric(labels, one.host_bytes)
    yield host
    for name, about, loads in _BY_SOURCE:
        by_source = CounterMetricFamily(name, about, labels=(*_LABELS, "source"))
        for labels, one in found:
            for source, value in zip(("host", "disk"), loads(one), strict=True):
                by_source.add_metric([*labels, source], value)
        yield by_source
    for name, about, value_of in _COUNTERS:
        counter = CounterMetricFamily(name, about, labels=_LABELS)
        for labels, one in found:
            counter.add_metric(labels, value_of(one))
        yield counter
    for name, about, sum_of in _AGES:
        ages = SummaryMetricFamily(name, about, labels=_LABELS)
        for labels, one in found:
            ages.add_metric(labels, count_value=one.evictions, sum_value=sum_of(one))
        yield ages
