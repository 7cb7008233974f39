"""Weights come in while others compute, and only into room that nobody needs now."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.function import WEIGHTS, Function
from fusion.loaders import MappedLoader, MappedWeights
from fusion.slots import SlotTable
from fusion.weights import WeightsIndex
from tests.integration.workers.builders import linear_graph
from tests.unit.fusion_memory.fakes import FakeClock
from tests.unit.workers.computing import Parts, a_job
from workers.compute import Results
from workers.prefetch_policy import AGAIN_S, Device, next_to_bring_in, spare
from workers.prefetching import PrefetchStats
from workers.records import Staged, Tally

WIDTH = 256
# of a function's file: weights and the page of its header
FILE_BYTES = WIDTH * WIDTH * 4 + 4096
PATIENCE_S = 20.0
KEYS = "abcdef"


class WatchedLoader(MappedLoader):
    """Says when a file is in; `hold` keeps loads from beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on, self.is_in = (threading.Event() for _ in range(3))
        self.go_on.set()

    def load(self, path: Path, index: WeightsIndex, is_verified: bool) -> MappedWeights:
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        weights = super().load(path, index, is_verified)
        self.is_in.set()
        return weights


class Bench:
    """A worker's parts, with room for so many functions and a little scratch."""

    def __init__(self, folder: Path, room: int) -> None:
        self.loader, self.clock = WatchedLoader(), FakeClock()
        self._factors = count(1.0)
        # 64 KiB for what a job's activations are counted with
        slots = SlotTable(self.loader, room * FILE_BYTES + 64 * 1024)
        self.parts = Parts(folder, slots=slots, clock=self.clock)
        self.prefetcher, self.slots = self.parts.prefetcher, slots

    def deploy(self, name: str, **changes: object) -> Function:
        # of its own: equal ones would be resident once
        weights = {"w": next(self._factors) * torch.eye(WIDTH)}
        return self.parts.deploy(name, linear_graph(WIDTH), weights, **changes)

    def run(self, *functions: Function, tally: Tally | None = None) -> Results:
        return self.parts.compute([job_of(function) for function in functions], tally)

    def resident(self) -> list[str]:
        self.slots.check_integrity()
        return [key.partition("@")[0] for key in self.slots.stats().resident]


def job_of(function: Function) -> Staged:
    return a_job(function, {"x": np.ones((1, WIDTH), np.float32)})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, room=3)


def test_the_next_groups_weights_arrive_while_the_current_one_computes(bench: Bench) -> None:
    """A run is on the device all the time; the next group's file is in before it ends."""
    function = bench.deploy("next")
    with ThreadPoolExecutor(1) as pool:
        with bench.parts.turn.device:
            group = pool.submit(bench.run, function)
            assert bench.loader.is_in.wait(PATIENCE_S)
            assert bench.parts.dags.runs == []
        ran, ended = group.result(PATIENCE_S)
    assert (len(ran), ended) == (1, [])


def test_a_prefetched_function_has_nothing_to_swap(bench: Bench) -> None:
    """Its first job finds the weights there, and that is counted."""
    first, second = bench.deploy("first"), bench.deploy("second")
    bench.run(first)
    bench.prefetcher.expect([second.ref])
    assert bench.prefetcher.bring_in_one()
    assert not bench.prefetcher.bring_in_one()
    assert bench.resident() == ["first", "second"]
    tally = Tally()
    (ran,), _ = bench.run(second, tally=tally)
    assert (ran.times.swap_s, tally.swap_bytes, tally.cold) == (0.0, 0, set())
    assert PrefetchStats(1, 1) == bench.prefetcher.stats()
    bench.run(second)
    assert PrefetchStats(1, 1) == bench.prefetcher.stats()


def test_a_group_that_comes_during_a_prefetch_waits_for_the_rest_of_it(bench: Bench) -> None:
    """One load serves both."""
    function = bench.deploy("f")
    bench.loader.go_on.clear()
    bench.prefetcher.expect([function.ref])
    with ThreadPoolExecutor(2) as pool:
        prefetch: Future[bool] = pool.submit(bench.prefetcher.bring_in_one)
        assert bench.loader.begun.wait(PATIENCE_S)
        group = pool.submit(bench.run, function)
        bench.loader.go_on.set()
        assert prefetch.result(PATIENCE_S)
        (ran,), _ = group.result(PATIENCE_S)
    assert ran.times.swap_s == 0.0
    assert bench.slots.stats().loads == 1
    assert PrefetchStats(1, 1) == bench.prefetcher.stats()


def test_what_is_coming_or_held_does_not_leave_for_a_prefetch(bench: Bench) -> None:
    """Room for three: one is held, one is coming too, so the least recent of the others goes."""
    held, coming, idle, new, newer = (bench.deploy(n) for n in ("held", "coming", "idle", "n", "m"))
    for function in (held, coming, idle):
        bench.run(function)
    request = bench.parts.library.get(held).slot
    with bench.slots.acquire([request]):
        bench.prefetcher.expect([new.ref, coming.ref, newer.ref])
        assert bench.prefetcher.bring_in_one()
        assert not bench.prefetcher.bring_in_one()
        assert {"held", "coming", "n"} == set(bench.resident())
    bench.prefetcher.expect([])
    assert not bench.prefetcher.bring_in_one()


def test_what_did_not_stay_is_not_brought_in_over_and_over(bench: Bench) -> None:
    """Only after a while, or once it was used."""
    function = bench.deploy("f")
    bench.prefetcher.expect([function.ref])
    assert bench.prefetcher.bring_in_one()
    assert bench.slots.evict(str(function.ref))
    assert not bench.prefetcher.bring_in_one()
    bench.clock.now_s += AGAIN_S
    assert bench.prefetcher.bring_in_one()
    bench.run(function)
    assert bench.slots.evict(str(function.ref))
    assert bench.prefetcher.bring_in_one()
    assert PrefetchStats(3, 1) == bench.prefetcher.stats()


def test_functions_that_cannot_wait_in_slots_are_left_to_their_jobs(bench: Bench) -> None:
    """Eager, not to be kept, broken, unknown; those after them are brought in."""
    eager = bench.deploy("eager", is_eager=True)
    fleeting = bench.deploy("fleeting", keep_alive_s=0.0)
    broken, sound, damaged = (bench.deploy(name) for name in ("broken", "sound", "damaged"))
    (bench.parts.folder / broken.digest / "graph.json").write_bytes(b"{}")
    with (bench.parts.folder / damaged.digest / WEIGHTS).open("r+b") as file:
        file.seek(FILE_BYTES - 1)
        file.write(b"!")
    bench.prefetcher.expect([f.ref for f in (eager, fleeting, broken, damaged, sound)])
    assert [bench.prefetcher.bring_in_one() for _ in range(3)] == [True, True, False]
    assert bench.resident() == ["sound"]
    assert PrefetchStats(1, 0) == bench.prefetcher.stats()


def test_what_a_group_brought_in_itself_is_no_prefetch(bench: Bench) -> None:
    """Nor a hit, though it was coming."""
    function = bench.deploy("f")
    bench.prefetcher.expect([function.ref])
    bench.run(function)
    assert not bench.prefetcher.bring_in_one()
    assert PrefetchStats(0, 0) == bench.prefetcher.stats()


def test_parts_of_a_group_are_brought_in_for_each_other(bench: Bench) -> None:
    """Four functions do not fit at once: those of the second half are in when the first ends."""
    functions = [bench.deploy(name) for name in ("a", "b", "c", "d")]
    thread = threading.Thread(target=bench.prefetcher.run)
    thread.start()
    came = threading.Event()

    def before(rows: dict[str, int]) -> None:
        # of the second half one fits beside the first
        if "a@1" in rows:
            while len(bench.slots.stats().resident) < 3:
                assert not came.wait(0.001)  # the table tells nobody what has arrived
                assert thread.is_alive()

    bench.parts.dags.before = before
    try:
        ran, ended = bench.run(*functions)
    finally:
        bench.prefetcher.stop()
        thread.join(PATIENCE_S)
    assert (len(ran), ended) == (4, [])
    assert PrefetchStats(1, 1) == bench.prefetcher.stats()


@given(
    st.lists(st.sampled_from(KEYS), unique=True),
    st.sets(st.sampled_from(KEYS)),
    st.sets(st.sampled_from(KEYS)),
    st.lists(st.integers(0, 60), min_size=len(KEYS), max_size=len(KEYS)),
    st.integers(0, 100),
    st.dictionaries(st.sampled_from(KEYS), st.floats(0, 20)),
)
def test_what_is_chosen_fits_beside_all_that_stays(
    coming: list[str],
    resident: set[str],
    pinned: set[str],
    sizes: list[int],
    taken_bytes: int,
    tried_s: dict[str, float],
) -> None:
    """It is coming and not there; nothing more urgent could have been chosen."""
    size_of = dict(zip(KEYS, sizes, strict=True))
    device = Device(100, taken_bytes, resident, pinned, 0)
    key = next_to_bring_in(coming, device, size_of, tried_s, 20.0)
    stays = spare(coming, device) | pinned
    room_bytes = 100 - taken_bytes - sum(size_of[other] for other in stays)

    def could_be(other: str) -> bool:
        is_there = other in resident | pinned
        return not is_there and size_of[other] <= room_bytes and tried_s.get(other, 0) <= 15

    assert key == next(filter(could_be, coming), None)
    waiting = device._replace(waiting=1)
    assert next_to_bring_in(coming, waiting, size_of, tried_s, 20.0) is None
