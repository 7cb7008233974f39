"""Prometheus metrics, computed from the store: every gateway process answers the same.

Names follow https://prometheus.io/docs/practices/naming/. Counters of workers start again with
their process; `rate` and `increase` allow for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from contract.job import SETTLED
from contract.store import Store
from contract.store.telemetry import LATENCY_BOUNDS_S
from contract.store.workers import WorkerReport
from gateway.answer import Answer
from gateway.metrics_events import event_metrics
from gateway.metrics_memory import memory_metrics
from gateway.metrics_scheduling import scheduling_metrics
from gateway.overview import Overview, latency_counts, tier

_STAGES = ("queue", "group", "swap", "build", "compute", "hooks")
# counters of the platform with a fixed name: (field, metric, help)
_PLAIN = (
    ("groups", "fusebox_groups", "Groups that ran"),
    ("group_jobs", "fusebox_group_jobs", "Jobs of the groups that ran"),
    ("group_functions", "fusebox_group_functions", "Functions of the groups that ran"),
    ("isolated", "fusebox_isolated_groups", "Fused runs repeated singly after a failure"),
    ("abandoned", "fusebox_abandoned_jobs", "Queued jobs cancelled because their caller hung up"),
    ("fenced", "fusebox_fenced_writes", "Writes refused because their lease was lost"),
    ("dead_letters", "fusebox_dead_letters", "Jobs and deliveries given up and kept"),
    ("events", "fusebox_events", "CloudEvents that were posted"),
    ("events_unmatched", "fusebox_events_unmatched", "CloudEvents that no trigger is for"),
)
# counters of the platform with a label in their field: (prefix, metric, label, help)
_LABELLED = (
    ("rejected:", "fusebox_rejected", "reason", "Jobs refused at the enqueue"),
    ("refused:", "fusebox_refused", "reason", "Accepted jobs found not to be met in time"),
    ("expired:", "fusebox_deadline_missed", "stage", "Jobs whose deadline passed, by stage"),
    ("deliveries:", "fusebox_deliveries", "state", "Deliveries that are over, by how they ended"),
    ("trigger_calls:", "fusebox_trigger_calls", "kind", "Calls that triggers made"),
    ("trigger_duplicates:", "fusebox_trigger_duplicates", "kind", "Events that were jobs already"),
    ("trigger_skipped:", "fusebox_trigger_skipped", "kind", "Events that were passed over"),
    ("trigger_failures:", "fusebox_trigger_failures", "kind", "Attempts that made no call"),
)
# of each worker: (metric, kind, help, value)
_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
_OF_WORKERS: tuple[tuple[str, _Family, str, Callable[[WorkerReport], float]], ...] = (
    ("fusebox_memory_budget_bytes", GaugeMetricFamily, "Device memory a worker may use",
     lambda w: w.budget_bytes),
    ("fusebox_memory_resident_bytes", GaugeMetricFamily, "Weights, DAGs and activations held",
     lambda w: w.resident_bytes),
    ("fusebox_memory_shared_bytes", GaugeMetricFamily, "Weights held that several functions use",
     lambda w: w.shared_bytes),
    ("fusebox_memory_process_bytes", GaugeMetricFamily, "Memory of the worker as measured",
     lambda w: w.process_bytes),
    ("fusebox_memory_baseline_bytes", GaugeMetricFamily,
     "Memory of the worker as measured when it was ready and nothing was resident",
     lambda w: w.baseline_bytes),
    ("fusebox_loads", CounterMetricFamily, "Functions swapped in", lambda w: w.loads),
    ("fusebox_evictions", CounterMetricFamily, "Functions evicted", lambda w: w.evictions),
    ("fusebox_thrash", CounterMetricFamily, "Loads of functions that had just been evicted",
     lambda w: w.thrash),
    ("fusebox_prefetches", CounterMetricFamily, "Functions brought in before their jobs came",
     lambda w: w.prefetches),
    ("fusebox_prefetch_hits", CounterMetricFamily, "Prefetched functions that were there in time",
     lambda w: w.prefetch_hits),
    ("fusebox_dag_cache_entries", GaugeMetricFamily, "Fused DAGs kept",
     lambda w: w.dag_cache.entries),
    ("fusebox_dag_cache_bytes", GaugeMetricFamily, "Bytes of the fused DAGs kept",
     lambda w: w.dag_cache.bytes),
    ("fusebox_dag_cache_hits", CounterMetricFamily, "Groups whose fused DAG was there",
     lambda w: w.dag_cache.hits),
    ("fusebox_dag_cache_misses", CounterMetricFamily, "Groups whose fused DAG was built",
     lambda w: w.dag_cache.misses),
    ("fusebox_dag_cache_evictions", CounterMetricFamily, "Fused DAGs evicted",
     lambda w: w.dag_cache.evictions),
    ("fusebox_worker_draining", GaugeMetricFamily, "1 while a worker drains",
     lambda w: float(w.is_draining)),
)  # fmt: skip


def metrics(store: Store) -> Answer:
    """GET /metrics; raises StoreUnavailable."""
    registry = CollectorRegistry()
    registry.register(_Collector(Overview.read(store)))
    return Answer(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Collector:
    """What prometheus_client asks for its metrics."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        """Every metric of the overview."""
        yield from _jobs(self._overview)
        yield from _functions(self._overview)
        yield from _latency(self._overview)
        yield from _platform(self._overview)
        yield from _workers(self._overview)
        yield from memory_metrics(self._overview.workers)
        yield from scheduling_metrics(self._overview)
        yield from event_metrics(self._overview)


def _jobs(overview: Overview) -> Iterator[Metric]:
    now = overview.conservation
    states = GaugeMetricFamily(
        "fusebox_jobs", "Jobs queued and running now, and settled ever", labels=["state"]
    )
    for state, count in {"queued": now.queued, "running": now.running, **now.settled}.items():
        states.add_metric([state], count)
    yield states
    yield CounterMetricFamily("fusebox_jobs_accepted", "Jobs accepted ever", now.accepted)
    yield GaugeMetricFamily(
        "fusebox_job_conservation_drift", "Jobs accepted that are nowhere; must be 0", now.drift
    )


def _functions(overview: Overview) -> Iterator[Metric]:
    settled = CounterMetricFamily(
        "fusebox_function_jobs", "Settled jobs", labels=["function", "state"]
    )
    rows = CounterMetricFamily("fusebox_rows", "Rows computed", labels=["function"])
    cold = CounterMetricFamily("fusebox_cold_starts", "Jobs that swapped in", labels=["function"])
    queue = GaugeMetricFamily("fusebox_queue_jobs", "Jobs that wait", labels=["function"])
    weights = GaugeMetricFamily(
        "fusebox_function_weight_bytes", "Weights, by where they are", labels=["function", "tier"]
    )
    for function in overview.functions:
        name, stats = function.name, overview.stats[function.name]
        for status in SETTLED:
            settled.add_metric([name, str(status)], stats.get(f"jobs:{status}", 0))
        rows.add_metric([name], stats.get("rows", 0))
        cold.add_metric([name], stats.get("cold", 0))
        queue.add_metric([name], overview.queued.get(name, 0))
        place = tier(function, overview.workers)
        weights.add_metric([name, place], function.manifest.weight_bytes)
    yield from (settled, rows, cold, queue, weights)


def _latency(overview: Overview) -> Iterator[Metric]:
    duration = HistogramMetricFamily(
        "fusebox_request_duration_seconds", "Accepted to settled", labels=["function"]
    )
    stages = {
        stage: CounterMetricFamily(
            f"fusebox_{stage}_seconds",
            f"Seconds that jobs spent in {stage}",
            labels=["function", "direction"] if stage == "swap" else ["function"],
        )
        for stage in _STAGES
    }
    for function in overview.functions:
        stats = overview.stats[function.name]
        counts, seen, buckets = latency_counts(stats), 0, []
        for bound, count in zip((*LATENCY_BOUNDS_S, "+Inf"), counts, strict=True):
            seen += count
            buckets.append((str(bound), float(seen)))
        duration.add_metric([function.name], buckets, stats.get("us:total", 0) / 1e6)
        for stage, family in stages.items():
            labels = [function.name, "in"] if stage == "swap" else [function.name]
            family.add_metric(labels, stats.get(f"us:{stage}", 0) / 1e6)
    yield duration
    yield from stages.values()


def _platform(overview: Overview) -> Iterator[Metric]:
    counters = overview.counters
    for field, name, about in _PLAIN:
        yield CounterMetricFamily(name, about, counters.get(field, 0))
    for prefix, name, label, about in _LABELLED:
        family = CounterMetricFamily(name, about, labels=[label])
        for field, count in counters.items():
            if field.startswith(prefix):
                family.add_metric([field.removeprefix(prefix)], count)
        yield family
    swapped = CounterMetricFamily("fusebox_swap_bytes", "Weights moved", labels=["direction"])
    swapped.add_metric(["in"], counters.get("swap_bytes", 0))
    yield swapped


def _workers(overview: Overview) -> Iterator[Metric]:
    for name, family_of, about, value in _OF_WORKERS:
        family = family_of(name, about, labels=["worker", "device"])
        for worker in overview.workers:
            family.add_metric([worker.id, worker.device], value(worker))
        yield family
    resident = GaugeMetricFamily(
        "fusebox_function_resident_bytes",
        "Weights in a slot, shared ones included",
        labels=["worker", "function"],
    )
    for worker in overview.workers:
        for function, resident_bytes in worker.functions.items():
            resident.add_metric([worker.id, function], resident_bytes)
    yield resident
