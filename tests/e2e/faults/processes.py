"""The processes of a platform, found as an operator finds them: by parent and command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process as /proc shows it."""

    pid: int
    parent: int
    state: str
    command: str


def running() -> Iterator[Process]:
    """Every process that runs, zombies left out."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            # the name in brackets may hold anything, so read from behind it
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if state != "Z":
            yield Process(int(folder.name), int(parent), state, command)


def children(parent: int, words: str = "") -> list[int]:
    """Pids of a process's children whose command line holds these words, lowest first."""
    return sorted(p.pid for p in running() if p.parent == parent and words in p.command)


def cpu_ticks(pid: int) -> int:
    """Processor time that the process has used, in the kernel's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
