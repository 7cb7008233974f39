"""From the ends of a group's jobs to one settlement. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from contract import keys
from contract.function import FunctionRef
from contract.job import Outcome, Status
from contract.store.queue import GroupReport, Settlement
from contract.store.telemetry import latency_bucket
from contract.tensors import encode_tensor
from workers.records import Ended, Tally


def settlements(ended: Sequence[Ended], fetched_at_s: float, now_s: float) -> list[Settlement]:
    """What the store keeps of every job."""
    ran = [one for one in ended if one.status is Status.SUCCEEDED or one.times.compute_s]
    functions = len({one.spec.ref for one in ran})
    shared = {one.claim.job for one in ran}
    return [
        _settlement(
            one,
            fetched_at_s,
            now_s,
            (len(ran), functions) if one.claim.job in shared else (0, 0),
        )
        for one in ended
    ]


def timings_ms(ended: Ended, fetched_at_s: float, now_s: float) -> dict[str, float]:
    """Milliseconds per stage of `contract.job.TIMINGS`."""
    seconds = _seconds(ended, fetched_at_s, now_s)
    timings = {stage: round(value * 1000, 3) for stage, value in seconds.items()}
    timings["total"] = round(_total_s(ended, now_s) * 1000, 3)
    return timings


def counters(
    ended: Sequence[Ended], tally: Tally, fetched_at_s: float, now_s: float
) -> dict[tuple[str, str], int]:
    """Amounts to add, by (hash, field); totals and statuses are counted by the settle script."""
    count: Counter[tuple[str, str]] = Counter()
    for one in ended:
        stats = keys.stats(one.spec.function)
        for stage, value in _seconds(one, fetched_at_s, now_s).items():
            if value:
                count[stats, f"us:{stage}"] += round(value * 1e6)
    for name in {one.spec.function for one in ended}:
        count[keys.stats(name), "groups"] += 1
    for name in tally.cold:
        count[keys.stats(name), "cold"] += 1
    # of a group whose functions are all behind nothing has ended yet
    count[keys.COUNTERS, "groups"] += bool(ended)
    count[keys.COUNTERS, "group_jobs"] += len(ended)
    count[keys.COUNTERS, "group_functions"] += len({one.spec.ref for one in ended})
    count[keys.COUNTERS, "swap_bytes"] += tally.swap_bytes
    count[keys.COUNTERS, "isolated"] += tally.isolated
    count[keys.COUNTERS, "expired:launch"] += tally.expired
    return {field: amount for field, amount in count.items() if amount}


def report(
    group: str,
    worker: str,
    ended: Sequence[Ended],
    tally: Tally,
    behind: Iterable[FunctionRef] = (),
    lanes: int = 1,
) -> GroupReport:
    """What the scheduler learns from the group; members are the functions that computed."""
    rows: Counter[FunctionRef] = Counter()
    for one in ended:
        if one.times.compute_s:
            rows[one.spec.ref] += one.rows
    return GroupReport(
        group,
        worker,
        [(ref.name, ref.version, n) for ref, n in rows.items()],
        tally.compute_s,
        tally.swap_s,
        tally.build_s,
        tally.swap_bytes,
        [(ref.name, ref.version) for ref in sorted(behind)],
        tally.strategies,
        tiers=["+".join(tally.tiers.get(ref, ())) for ref in rows],
        member_s=_member_s(tally, [*rows]),
        built=tally.built,
        lanes=lanes,
        disk_bytes=tally.disk_bytes,
        disk_s=tally.disk_s,
        began_at_s=tally.began_at_s,
        ended_at_s=tally.ended_at_s,
        jobs=len(ended),
    )


def _member_s(tally: Tally, members: Sequence[FunctionRef]) -> list[float]:
    """Per member, as far as all of them are known."""
    if not all(ref in tally.member_s for ref in members):
        return []
    return [tally.member_s[ref] for ref in members]


def _seconds(ended: Ended, fetched_at_s: float, now_s: float) -> dict[str, float]:
    times = ended.times
    queue_s = max(0.0, fetched_at_s - ended.spec.accepted_at_s) + times.wait_s
    own_s = queue_s + times.swap_s + times.build_s + times.compute_s + times.hooks_s
    return {
        "queue": queue_s,
        # what is left: hooks and weights of others, runs before and after its own
        "group": max(0.0, _total_s(ended, now_s) - own_s),
        "swap": times.swap_s,
        "build": times.build_s,
        "compute": times.compute_s,
        "hooks": times.hooks_s,
    }


def _total_s(ended: Ended, now_s: float) -> float:
    return max(0.0, now_s - ended.spec.accepted_at_s)


def _settlement(
    ended: Ended, fetched_at_s: float, now_s: float, group: tuple[int, int]
) -> Settlement:
    total_s = _total_s(ended, now_s)
    outputs = ended.outputs
    outcome = Outcome(
        ended.status,
        timings_ms(ended, fetched_at_s, now_s),
        None if outputs is None else {n: encode_tensor(t) for n, t in outputs.items()},
        ended.result,
        None if ended.error is None else ended.error.encode(),
        *group,
    )
    bucket, total_us = latency_bucket(total_s), round(total_s * 1e6)
    is_late = now_s > ended.spec.due_at_s
    return Settlement(ended.claim, outcome, bucket, total_us, ended.rows, is_late)
