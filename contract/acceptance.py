"""That a weights file is the one whose digests were compared when its artifact was accepted.

The gateway hashes every tensor before it accepts an artifact, and writes beside the file which file
that was. A worker that finds the same file need not hash it again: every write changes `ctime`,
which no program can set back, and a copy or a restored backup is another inode. What a disk gives
back wrongly without being written to is not found.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

# in the folder of an artifact; no member of an artifact has this name
ACCEPTED = "accepted.json"


class FileState(NamedTuple):
    """What of a file changes with its bytes."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def file_state(path: Path) -> FileState:
    """The file now; to be taken before it is hashed. Raises OSError."""
    found = os.stat(path)
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def note_accepted(weights: Path, state: FileState) -> None:
    """Write beside a weights file that its digests were compared in this state."""
    weights.with_name(ACCEPTED).write_text(json.dumps(state._asdict()))


def is_as_accepted(weights: Path) -> bool:
    """Whether the file is still in that state; False too where nothing, or nonsense, is noted."""
    try:
        noted = json.loads(weights.with_name(ACCEPTED).read_text())
        return bool(noted == file_state(weights)._asdict())
    except (OSError, ValueError):
        return False
