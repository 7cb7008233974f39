"""What a handler host is started with: its limits, its code, its environment, its weights."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import workers
from contract.function import HANDLER, INCLUDED
from workers.handlers.jail import Jail

# The child gets these and nothing else of the worker's environment: no addresses, no secrets.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_ROOT = Path(workers.__file__).parent.parent
# other hosts' files, the platform user's own, and devices
_HIDDEN = (tempfile.gettempdir(), str(Path.home()), "/dev")


# torch and what the source of an eager function imports, and its load()
START_S = 60.0


class HostLimits(NamedTuple):
    """What a host may use."""

    call_s: float
    memory_bytes: int
    # of an unpacked archive
    payload_bytes: int
    # of one answer
    reply_bytes: int
    # none, network or all
    reach: str = "none"
    # not to be seen by a function, but for what it and Python need of them
    hidden: tuple[str, ...] = ()
    # processes and threads together
    processes: int = 128
    # of one file that it writes
    file_bytes: int = 2**30
    open_files: int = 256
    # until it has loaded the function; 0 for as long as a call
    start_s: float = 0.0


class Forward(NamedTuple):
    """What a host needs beside the code, to run a function's forward."""

    weights: Path
    # of the weights file: [name, dtype, shape, offset, bytes] each
    entries: Sequence[Sequence[Any]]
    data_offset: int
    file_bytes: int
    # torch's name of it, as the host sees it
    device: str
    # CUDA_VISIBLE_DEVICES of the host
    visible: str
    threads: int


def copy_code(artifact: Path, folder: Path) -> Path:
    """The handler and its files side by side, as copies: what the function writes stays its own."""
    included = artifact / INCLUDED
    if included.is_dir():
        shutil.copytree(included, folder)
    folder.mkdir(exist_ok=True)
    shutil.copyfile(artifact / HANDLER, folder / HANDLER)
    return folder


@contextlib.contextmanager
def opened(forward: Forward | None) -> Iterator[tuple[int, ...]]:
    """The weights file, for reading: the host gets it open, for it lies where it cannot look."""
    if forward is None:
        yield ()
        return
    weights = os.open(forward.weights, os.O_RDONLY)
    try:
        yield (weights,)
    finally:
        os.close(weights)


def jail_of(scratch: Path, limits: HostLimits, forward: Forward | None) -> Jail:
    """What the keeper is to keep it in."""
    return Jail(
        str(scratch),
        limits.memory_bytes,
        limits.processes,
        limits.file_bytes,
        limits.open_files,
        limits.reach,
        (*limits.hidden, *_HIDDEN),
        forward is not None and forward.device != "cpu",
    )


def environment_of(scratch: Path, forward: Forward | None) -> dict[str, str]:
    """Its environment; nothing of the platform's settings."""
    # cores belong to the graphs, and a hook is one thread; forward runs when no graph does
    threads = str(1 if forward is None else forward.threads)
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {
        "PYTHONPATH": str(_ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",
        # the device belongs to the worker, and to functions that run eagerly
        "CUDA_VISIBLE_DEVICES": "" if forward is None else forward.visible,
    }
