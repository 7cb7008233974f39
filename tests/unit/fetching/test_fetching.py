"""Artifacts come whole or not at all, once, and leave in order of their last use."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.acceptance import is_as_accepted
from contract.errors import ArtifactUnavailable
from contract.function import WEIGHTS
from tests.unit.fetching.packing import artifact, function_of, store
from workers.fetching import remote
from workers.fetching.artifacts import USED_S, Fetching
from workers.fetching.remote import Remote
from workers.fetching.shelf import Shelf

WAIT_S = 60.0


class Machine:
    """A worker's disk, and a store."""

    def __init__(self, folder: Path, budget_bytes: int = 10**9) -> None:
        self.store = folder / "store"
        self.artifacts = folder / "data" / "artifacts"
        self.now_s = 0.0
        self.resident: set[str] = set()
        self.shelf = Shelf(self.artifacts, folder / "data" / "fetched", budget_bytes)
        self.fetching = self.worker()

    def worker(self) -> Fetching:
        """What one worker process of the machine fetches with."""
        found = Remote(f"file://{self.store}", "")
        return Fetching(self.shelf, found, WAIT_S, lambda: self.resident, lambda: self.now_s)

    @property
    def kept(self) -> set[str]:
        """Digests that are on the disk."""
        return {path.name for path in self.artifacts.iterdir() if path.name != ".incoming"}

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left of what was under way."""
        return [*(self.artifacts / ".incoming").iterdir()] == []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with nothing on it."""
    return Machine(tmp_path)


def test_an_artifact_is_fetched_checked_and_unpacked(machine: Machine) -> None:
    """In several parts; its weights count as verified, for the digest covers them."""
    digest, tar = artifact(1, size_bytes=3 * remote.CHUNK_BYTES)
    store(machine.store, digest, tar)
    function = function_of(digest)
    assert not machine.fetching.is_here(function)
    machine.fetching.bring(function)
    assert machine.fetching.is_here(function)
    weights = machine.artifacts / digest / WEIGHTS
    assert weights.read_bytes() == (1).to_bytes(4, "little") * (3 * remote.CHUNK_BYTES // 4)
    assert is_as_accepted(weights)
    assert machine.is_clean


def cut(tar: bytes) -> bytes:
    """Without its end."""
    return tar[:-1]


def flip(tar: bytes) -> bytes:
    """With one other bit in its weights."""
    return tar[:2000] + bytes([tar[2000] ^ 1]) + tar[2001:]


@pytest.mark.parametrize("damage", [cut, flip, lambda tar: b""])
def test_what_is_damaged_is_never_used_and_fetched_again(
    machine: Machine, damage: Callable[[bytes], bytes]
) -> None:
    """The error names the artifact; the next call, a moment later, asks the store again."""
    digest, tar = artifact(1)
    path = store(machine.store, digest, damage(tar))
    with pytest.raises(ArtifactUnavailable, match=digest):
        machine.fetching.bring(function_of(digest))
    assert machine.kept == set()
    assert machine.is_clean
    path.write_bytes(tar)
    with pytest.raises(ArtifactUnavailable, match=digest):
        machine.fetching.bring(function_of(digest))
    machine.now_s += 1.0
    machine.fetching.bring(function_of(digest))
    assert machine.kept == {digest}


def test_an_artifact_that_the_store_does_not_have_is_said_to_be_missing(machine: Machine) -> None:
    """At once: there is nothing to try again."""
    with pytest.raises(ArtifactUnavailable, match="there is none"):
        machine.fetching.bring(function_of("0" * 64))


def test_a_broken_connection_costs_one_part(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the whole artifact."""
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.001)
    digest, tar = artifact(1, size_bytes=2 * remote.CHUNK_BYTES)
    store(machine.store, digest, tar)
    broken = threading.Event()

    class Breaking(Remote):
        """Breaks once, in the second part."""

        def _open(self) -> tuple[object, str]:
            fs, base = super()._open()
            return _BreaksOnce(fs, broken), base

    shelf = machine.shelf
    fetching = Fetching(shelf, Breaking(f"file://{machine.store}", ""), WAIT_S, set)
    fetching.bring(function_of(digest))
    assert broken.is_set()
    assert machine.kept == {digest}


class _BreaksOnce:
    def __init__(self, fs: object, broken: threading.Event) -> None:
        self._fs = fs
        self._broken = broken

    def size(self, path: str) -> int:
        return self._fs.size(path)  # type: ignore[attr-defined, no-any-return]

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        if start and not self._broken.is_set():
            self._broken.set()
            raise ConnectionResetError
        return self._fs.cat_file(path, start=start, end=end)  # type: ignore[attr-defined, no-any-return]


def test_who_asks_meanwhile_waits_for_the_same_fetch(machine: Machine) -> None:
    """Threads of one worker, and two workers of one machine."""
    digest, tar = artifact(1, size_bytes=2 * remote.CHUNK_BYTES)
    path = store(machine.store, digest, tar)
    workers = [machine.fetching, machine.worker()]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(workers[i % 2].bring, function_of(digest)) for i in range(8)]
        for future in futures:
            future.result()
    path.unlink()
    assert all(worker.is_here(function_of(digest)) for worker in workers)


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    """Room for two; resident functions keep theirs however long they are not called."""
    made = [artifact(number) for number in range(4)]
    machine = Machine(tmp_path, budget_bytes=2 * len(made[0][1]))
    digests = [digest for digest, _ in made]
    for digest, tar in made:
        store(machine.store, digest, tar)
    functions = [function_of(digest, f"f{i}") for i, digest in enumerate(digests)]
    machine.resident = {"f0@1"}
    machine.fetching.bring(functions[0])
    machine.fetching.bring(functions[1])
    with pytest.raises(ArtifactUnavailable, match="FUSEBOX_ARTIFACT_CACHE"):
        machine.fetching.bring(functions[2])
    machine.now_s += USED_S + 1
    machine.fetching.look()
    machine.fetching.bring(functions[2])
    assert machine.kept == {digests[0], digests[2]}
    machine.resident = set()
    machine.now_s += USED_S + 1
    machine.fetching.look()
    machine.fetching.bring(functions[3])
    assert machine.kept == {digests[2], digests[3]}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_what_is_kept_never_takes_more_than_the_budget(asked: list[int], room: int) -> None:
    """Whatever is asked for, and what was asked for last is there."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        made = [artifact(number) for number in range(6)]
        machine = Machine(Path(folder), budget_bytes=room * len(made[0][1]))
        for digest, tar in made:
            store(machine.store, digest, tar)
        for number in asked:
            machine.now_s += USED_S + 1
            machine.fetching.look()
            machine.fetching.bring(function_of(made[number][0]))
            assert made[number][0] in machine.kept
            assert machine.shelf.fetched_bytes() <= room * len(made[0][1])
            assert machine.shelf.fetched_bytes() == len(machine.kept) * len(made[0][1])


def test_what_was_deployed_on_this_machine_is_used_and_never_dropped(tmp_path: Path) -> None:
    """A gateway's artifacts lie in the same folder."""
    machine = Machine(tmp_path, budget_bytes=2000)
    deployed = machine.artifacts / ("d" * 64)
    deployed.mkdir(parents=True)
    machine.fetching.bring(function_of("d" * 64))
    for number in range(3):
        digest, tar = artifact(number, size_bytes=8)
        machine.shelf._budget_bytes = len(tar)
        store(machine.store, digest, tar)
        machine.now_s += USED_S + 1
        machine.fetching.look()
        machine.fetching.bring(function_of(digest))
    assert machine.kept == {"d" * 64, digest}


def test_another_process_keeps_what_it_uses_until_it_ends(machine: Machine) -> None:
    """Its lock ends with it, however it ends."""
    digest, tar = artifact(1)
    store(machine.store, digest, tar)
    machine.fetching.bring(function_of(digest))
    code = (
        "import sys; from pathlib import Path; from workers.fetching.shelf import Shelf\n"
        f"shelf = Shelf(Path({str(machine.artifacts)!r}), Path({str(machine.shelf._marks)!r}), 1)\n"
        f"hold = shelf.hold({digest!r}); print(hold is not None, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        machine.now_s += USED_S + 1
        machine.fetching.look()
        assert not machine.shelf._remove(digest)
    finally:
        other.kill()
        other.communicate()
    assert machine.shelf._remove(digest)
    assert machine.kept == set()


def test_a_gateway_that_does_not_answer_is_asked_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is not taken for one that has no such artifact."""
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.001)
    digest = "0" * 64
    with pytest.raises(ArtifactUnavailable, match="could not be fetched"):
        Remote("http://127.0.0.1:9", "").size_bytes(digest)
    assert caplog.text.count("not_fetched") == remote.TRIES
