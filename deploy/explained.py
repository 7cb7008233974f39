"""Why a job waited, for people."""

from __future__ import annotations

from deploy.client import Record
from deploy.render import human_ms


def explanation_rows(record: Record, is_full: bool) -> list[tuple[str, str]]:
    """Rows of a job's table: the sentence; in full also what waited, the group and its members."""
    why = record.get("explanation")
    if why is None:
        return []
    rows = [("why", why["sentence"])]
    if not is_full:
        return rows
    queue = why["queue"]
    if "jobs_ahead" in queue:
        ahead = f"{queue['jobs_ahead']} jobs, {queue['own_jobs_ahead']} of its function"
        rows.append(("waited then", ahead))
    if "jobs_before" in queue:
        of = ", ".join(f"{count} {name}" for name, count in queue["functions_before"].items())
        least = "at least " if queue["is_at_least"] else ""
        before = f"{least}{queue['jobs_before']} jobs"
        rows.append(("went before", f"{before}: {of}" if of else before))
    return rows + _group_rows(why)


def _group_rows(why: Record) -> list[tuple[str, str]]:
    group = why.get("group")
    if group is None:
        return []
    rows = [("group", f"{group['id']} on {group['worker']}")]
    if "members" not in group:
        return [*rows, ("predicted", human_ms(why.get("predicted_ms")))]
    members = [f"{m['function']}@{m['version']} x{m['rows']}" for m in group["members"]]
    return [
        *rows,
        ("members", ", ".join(members) or "none computed"),
        ("strategy", ", ".join(group["strategies"]) or "-"),
        ("predicted", human_ms(group["predicted_ms"])),
        ("measured", f"{human_ms(group['measured_ms'])}, {_parts(group)}"),
    ]


def _parts(group: Record) -> str:
    return ", ".join(
        f"{part} {human_ms(group[f'{part}_ms'])}" for part in ("swap", "build", "compute")
    )
