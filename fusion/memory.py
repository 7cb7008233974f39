"""Host memory, measured from /proc and the control groups."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def limit_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """RAM this process may use: the machine's, or the least limit of its control groups."""
    return min([_meminfo(proc, "MemTotal"), *(limit for limit, _ in _groups(proc, cgroup))])


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """RAM this process could still take without swapping."""
    rooms = (max(limit - used, 0) for limit, used in _groups(proc, cgroup))
    return min([_meminfo(proc, "MemAvailable"), *rooms])


def process_resident_bytes(proc: Path = PROC) -> int:
    """This process's resident set, mapped files included."""
    pages = int((proc / "self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _meminfo(proc: Path, field: str) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{proc / 'meminfo'} has no {field}")


def _groups(proc: Path, cgroup: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of each limited control group from this process's up to the root."""
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, used = cgroup, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # inside a container the path is the host's and only the root is mounted
        relative = Path(path.lstrip("/"))
        for group in (root / relative, *(root / parent for parent in relative.parents)):
            text = _read(group / limit)
            if text is not None and text != "max":
                yield int(text), int(_read(group / used) or 0) - _reclaimable_bytes(group)


def _reclaimable_bytes(group: Path) -> int:
    """Page cache the kernel drops first; a control group counts it as used."""
    lines = (_read(group / "memory.stat") or "").splitlines()
    stat = dict(line.split(" ", 1) for line in lines)
    # version 1 counts the groups below in total_* alone
    return int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
