"""How well functions are served, and how the scheduler decides: for stats, metrics and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.function import Function
from contract.job import Status
from contract.store.scheduling import SchedulingNow
from contract.utility import Served, utility

# statuses of accepted jobs that were never answered, though nobody gave them up
_UNANSWERED = (Status.EXPIRED, Status.REFUSED)
# fields of counters that count refusals: at the enqueue, and by the scheduler
_REFUSED = ("rejected:", "refused:")


def violations(stats: Mapping[str, int]) -> dict[str, int]:
    """Accepted jobs that were not answered by their due time, by how; without an SLO by timeout."""
    unanswered = {str(how): stats.get(f"jobs:{how}", 0) for how in _UNANSWERED}
    return {"late": stats.get("late", 0), **unanswered}


def refusals(stats: Mapping[str, int]) -> dict[str, int]:
    """Refused requests and jobs, by reason."""
    found: dict[str, int] = {}
    for field, count in stats.items():
        for prefix in _REFUSED:
            if field.startswith(prefix):
                reason = field.removeprefix(prefix)
                found[reason] = found.get(reason, 0) + count
    return found


def serving(
    function: Function, stats: Mapping[str, int], now: SchedulingNow | None
) -> dict[str, Any]:
    """One function: counters ever, and rates, mean latency and utility of the scheduler's window.

    The rates are None while no scheduler leads.
    """
    served = served_of(function, now)
    latency_s = served.mean_latency_s if served else None
    return {
        "late": stats.get("late", 0),
        "violations": sum(violations(stats).values()),
        "refusals": refusals(stats),
        "answered_per_s": served.throughput_per_s if served else None,
        "goodput_per_s": served.goodput_per_s if served else None,
        "latency_ms": None if latency_s is None else 1000 * latency_s,
        "utility": utility_of(function, now),
    }


def served_of(function: Function, now: SchedulingNow | None) -> Served | None:
    """What it answered in the window, if only nothing; None while no scheduler leads."""
    return now.served.get(function.name, Served(0.0, 0, 0, 0.0)) if now else None


def utility_of(function: Function, now: SchedulingNow | None) -> float | None:
    """ln(throughput / (latency / SLO)) over the window; None without answers or without an SLO."""
    served, slo_ms = served_of(function, now), function.manifest.slo_ms
    return None if served is None else utility(served, None if slo_ms is None else slo_ms / 1000)


def deciding(now: SchedulingNow | None) -> dict[str, Any] | None:
    """The scheduler itself, since it leads; None while none does."""
    if now is None:
        return None
    decisions = now.decisions
    return {
        "policy": decisions.policy,
        "decisions": decisions.calls,
        "dispatches": decisions.dispatches,
        "decision_p50_ms": _in_ms(decisions.p50_s),
        "decision_p99_ms": _in_ms(decisions.p99_s),
    }


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
