"""Architectures that run often are compiled in the background, one at a time, at low priority.

Packages are kept by device and torch version, and are there at the next start. One that ended a
worker while it was on trial is not tried for ever.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contract.log import Log
from fusion.codegen import Program
from fusion.compiled import CompileError, has_compiler, load
from fusion.tiers import COMPILED

log = Log("compiling")
# Workers that may end while a package is on trial in them: it may not have been the package.
MOST_TRIALS = 3
# Packages take megabytes each; the least recently loaded go.
KEPT = 256
REASON_CHARACTERS = 500
STOP_S = 5.0


@dataclass
class _Compilation:
    """One that is under way."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path
    turn: BinaryIO  # locked while it lasts: one compilation at a time on this machine


class Compiling:
    """`look` is called now and then, by one thread; `stop` by any, once.

    `after_runs` of an architecture make it worth compiling; 0: nothing is compiled, and what was
    compiled before is not used either. `runners` threads may run one architecture at once.
    """

    def __init__(
        self,
        folder: Path,
        programs: Callable[[], Iterable[Program]],
        after_runs: int,
        runners: int,
    ) -> None:
        self._folder = folder
        # of the compiler; only who has the turn uses it
        self._cache = folder / "cache"
        self._programs = programs
        self._after_runs = after_runs if has_compiler() else 0
        self._runners = runners
        self._lock = threading.Lock()  # guards what is under way, and whether anything may be
        self._under_way: _Compilation | None = None
        self._is_stopped = False
        # architectures whose package was looked for
        self._seen: set[str] = set()
        self._on_trial: dict[str, Program] = {}

    def look(self) -> None:
        """Load what is there, note what has proven itself, begin and end compilations."""
        if not self._after_runs:
            return
        try:
            self._look(list(self._programs()))
        except OSError:  # a full disk: functions run as they did, and the next look tries again
            log.exception("compiling_failed")

    def stop(self) -> None:
        """End what is under way; a package that is on trial has not ended this worker."""
        with self._lock:
            self._is_stopped = True
            current, self._under_way = self._under_way, None
        if current is not None:
            _kill(current.process)
            self._clean(current)
        for architecture in self._on_trial:
            self._path(architecture, "trials").unlink(missing_ok=True)

    def _look(self, programs: list[Program]) -> None:
        for program in programs:
            if program.graph.architecture not in self._seen:
                self._seen.add(program.graph.architecture)
                self._load(program)
        self._end_trials()
        self._reap()
        waiting = [p for p in programs if self._is_due(p)]
        if waiting and self._under_way is None:
            self._begin(max(waiting, key=lambda p: p.tiers.runs))

    def _path(self, architecture: str, suffix: str) -> Path:
        return self._folder / f"{architecture}.{suffix}"

    def _is_due(self, program: Program) -> bool:
        architecture = program.graph.architecture
        return (
            program.tiers.runs >= self._after_runs
            and COMPILED not in program.tiers.names
            and COMPILED not in program.tiers.dropped
            and not self._path(architecture, "failed").exists()
        )

    def _begin(self, program: Program) -> None:
        architecture = program.graph.architecture
        self._folder.mkdir(parents=True, exist_ok=True)
        turn = _take_turn(self._folder / "lock")
        if turn is None:
            return
        if self._path(architecture, "pt2").exists():  # another worker's
            turn.close()
            self._load(program)
            return
        graph = self._path(architecture, "json")
        graph.write_bytes(program.graph.encode())
        said = self._path(architecture, "log")
        # of a worker that was killed, or of none: this one has the turn
        shutil.rmtree(self._cache, ignore_errors=True)
        settings = {
            "TORCHINDUCTOR_CACHE_DIR": str(self._cache),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        command = [sys.executable, "-m", "fusion.compiled"]
        command += [str(graph), str(self._path(architecture, "pt2")), "--row-groups"]
        command += map(str, program.row_groups)
        with self._lock, said.open("wb") as output:
            if self._is_stopped:
                turn.close()
                return
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | settings,
                start_new_session=True,
            )
            self._under_way = _Compilation(program, process, said, turn)
        log.info("compiling", architecture=architecture, runs=program.tiers.runs)

    def _reap(self) -> None:
        with self._lock:
            current = self._under_way
            if current is None or current.process.poll() is None:
                return
            self._under_way = None
        architecture = current.program.graph.architecture
        if current.process.returncode == 0:
            log.info("compiled", architecture=architecture)
            self._load(current.program)
        else:
            said = current.log.read_text(errors="replace")
            self._fail(architecture, last_line(said) or f"exit {current.process.returncode}")
        self._clean(current)

    def _clean(self, ended: _Compilation) -> None:
        ended.log.unlink(missing_ok=True)
        self._path(ended.program.graph.architecture, "json").unlink(missing_ok=True)
        shutil.rmtree(self._cache, ignore_errors=True)
        ended.turn.close()

    def _load(self, program: Program) -> None:
        architecture = program.graph.architecture
        package, trials = self._path(architecture, "pt2"), self._path(architecture, "trials")
        if not package.exists() or self._path(architecture, "failed").exists():
            return
        count = int(trials.read_text() or 0) if trials.exists() else 0
        if count >= MOST_TRIALS:
            self._fail(architecture, f"{count} workers ended while it was on trial")
            return
        trials.write_text(str(count + 1))
        try:
            run = load(program.graph, package, self._runners)
        except CompileError as error:
            self._fail(architecture, str(error))
            return
        os.utime(package)  # what was loaded last is kept longest
        self._on_trial[architecture] = program
        program.tiers.add(COMPILED, run)
        self._prune()

    def _end_trials(self) -> None:
        for architecture, program in [*self._on_trial.items()]:
            if program.tiers.is_proven(COMPILED):
                self._path(architecture, "trials").unlink(missing_ok=True)
                del self._on_trial[architecture]
            elif COMPILED in program.tiers.dropped:
                self._fail(architecture, program.tiers.dropped[COMPILED])
                del self._on_trial[architecture]

    def _fail(self, architecture: str, reason: str) -> None:
        log.warning("not_compiled", architecture=architecture, reason=reason[:REASON_CHARACTERS])
        self._path(architecture, "failed").write_text(reason + "\n")
        for suffix in ("pt2", "trials"):
            self._path(architecture, suffix).unlink(missing_ok=True)

    def _prune(self) -> None:
        packages = sorted(self._folder.glob("*.pt2"), key=lambda path: path.stat().st_mtime)
        for package in packages[:-KEPT]:
            package.unlink(missing_ok=True)


def folder_for(data: Path, identity: str) -> Path:
    """Where packages for a device are: named after it, for people."""
    return data / "compiled" / file_name(identity)


def file_name(identity: str) -> str:
    """A device's identity as part of a path."""
    return re.sub(r"[^a-z0-9.]+", "-", identity.lower()).strip("-")


def last_line(text: str) -> str:
    """The last line that says anything."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _take_turn(path: Path) -> BinaryIO | None:
    """The locked file, or None while another worker has it; closing it, or dying, gives it back."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It and the compilers it has started: all are in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("compiler_had_ended", pid=process.pid)
    process.wait(STOP_S)
