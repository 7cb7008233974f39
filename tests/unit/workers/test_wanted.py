"""Weights that operators want in memory stay there, and those they do not want leave."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.errors import UnknownFunction
from contract.function import WEIGHTS, Function, FunctionRef
from contract.store.wanted import Place, Progress, Want, WantReport
from fusion.loaders import MappedLoader
from fusion.slots import SlotRequest, SlotTable
from tests.integration.workers.builders import linear_graph
from tests.unit.workers.computing import Parts, a_job
from workers.wanted import Parts as WantParts
from workers.wanted import Wants

WIDTH = 256
# of a function's file: weights and the page of its header
FILE_BYTES = WIDTH * WIDTH * 4 + 4096
LOADED, UNLOADED = Place.LOADED, Place.UNLOADED


class Bench:
    """A worker's parts with room for three functions, and wants that a test writes."""

    def __init__(self, folder: Path) -> None:
        # 64 KiB for what a job's activations are counted with
        self.slots = SlotTable(MappedLoader(), 3 * FILE_BYTES + 64 * 1024)
        self.parts = Parts(folder, slots=self.slots)
        self.wanted: dict[FunctionRef, Want] = {}
        self._functions: dict[FunctionRef, Function] = {}
        self._numbers, self._factors = count(1), count(1.0)
        want_parts = WantParts(self.slots, self.parts.library, self._find, self._request)
        self.wants = Wants(lambda: [*self.wanted.values()], want_parts)

    def deploy(self, name: str, **changes: object) -> Function:
        weights = {"w": next(self._factors) * torch.eye(WIDTH)}
        function = self.parts.deploy(name, linear_graph(WIDTH), weights, **changes)
        self._functions[function.ref] = function
        return function

    def want(self, function: Function, place: Place) -> WantReport:
        """Want, as an operator does; what the worker says of it after one look."""
        self.wanted[function.ref] = Want(function.ref, next(self._numbers), place)
        return self.look()[str(function.ref)]

    def look(self) -> dict[str, WantReport]:
        self.wants.look()
        self.wants.fulfil()
        self.slots.check_integrity()
        return self.wants.reports()

    def run(self, *functions: Function) -> None:
        for function in functions:
            job = a_job(function, {"x": np.ones((1, WIDTH), np.float32)})
            (ran,), ended = self.parts.compute([job])
            assert ended == []
            assert ran.job is job

    def resident(self) -> set[str]:
        return {key.partition("@")[0] for key in self.slots.stats().resident}

    def _find(self, ref: FunctionRef) -> Function:
        if ref not in self._functions:
            raise UnknownFunction(f"No function {ref} is deployed.")
        return self._functions[ref]

    def _request(self, function: Function) -> SlotRequest:
        return self.parts.library.get(function).slot


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_loaded_function_is_there_before_its_first_call(bench: Bench) -> None:
    """The want alone brings it in, and the report says so under the want's number."""
    function = bench.deploy("f")
    report = bench.want(function, LOADED)
    assert (report.number, report.progress) == (1, Progress.DONE)
    assert {"f"} == bench.resident()


@pytest.mark.parametrize("keep_alive_s", [None, 0.0])
def test_a_loaded_function_stays_when_others_need_room(
    bench: Bench, keep_alive_s: float | None
) -> None:
    """Though it is the least recently used, and though its own manifest has it leave at once."""
    kept = bench.deploy("kept", keep_alive_s=keep_alive_s)
    others = [bench.deploy(f"o{i}") for i in range(4)]
    bench.want(kept, LOADED)
    bench.run(kept, *others)
    assert "kept" in bench.resident()
    assert len(bench.resident()) == 3


def test_an_unloaded_function_leaves_once_and_comes_back_with_its_next_call(bench: Bench) -> None:
    """It is evicted, not removed; and once it is back, an old want does not evict it again."""
    function = bench.deploy("f")
    bench.run(function)
    assert bench.want(function, UNLOADED).progress == Progress.DONE
    assert bench.resident() == set()
    bench.run(function)
    assert bench.look()[str(function.ref)].progress == Progress.DONE
    assert {"f"} == bench.resident()


def test_an_unloaded_function_is_kept_no_longer(bench: Bench) -> None:
    """Unload undoes load: others push it out as any other."""
    function = bench.deploy("f")
    others = [bench.deploy(f"o{i}") for i in range(4)]
    bench.want(function, LOADED)
    bench.want(function, UNLOADED)
    bench.run(function, *others)
    assert "f" not in bench.resident()


def test_what_a_group_holds_leaves_when_it_is_released(bench: Bench) -> None:
    """In-flight jobs end on the weights that they have."""
    function = bench.deploy("f")
    lease = bench.slots.acquire([bench.parts.library.get(function).slot])
    assert bench.want(function, UNLOADED).progress == Progress.UNDER_WAY
    assert {"f"} == bench.resident()
    lease.release()
    assert bench.look()[str(function.ref)].progress == Progress.DONE
    assert bench.resident() == set()


def test_what_cannot_be_kept_fails_with_the_reason_and_is_not_tried_again(bench: Bench) -> None:
    """Functions that are kept may take three quarters of the budget; two are kept here."""
    functions = [bench.deploy(f"f{i}") for i in range(3)]
    reports = [bench.want(function, LOADED) for function in functions]
    assert [r.progress for r in reports] == [Progress.DONE, Progress.DONE, Progress.FAILED]
    assert reports[2].code == "out_of_memory"
    assert "bytes" in reports[2].detail
    assert {"f0", "f1"} == bench.resident()
    bench.want(functions[0], UNLOADED)
    assert bench.look()[str(functions[2].ref)].progress == Progress.FAILED
    # a new want is tried
    assert bench.want(functions[2], LOADED).progress == Progress.DONE


def test_a_broken_artifact_fails_and_hides_its_path(bench: Bench) -> None:
    """The reason is for people elsewhere."""
    function = bench.deploy("f")
    (bench.parts.folder / function.digest / WEIGHTS).unlink()
    report = bench.want(function, LOADED)
    assert (report.progress, report.code) == (Progress.FAILED, "function_failed")
    assert str(bench.parts.folder) not in report.detail


def test_an_unknown_version_fails(bench: Bench) -> None:
    """It was removed between the want and the look."""
    ref = FunctionRef("gone", 1)
    bench.wanted[ref] = Want(ref, 1, LOADED)
    assert bench.look()["gone@1"].code == "unknown_function"


def test_a_loaded_function_that_left_is_brought_in_again(bench: Bench) -> None:
    """A want is a state, not an order: whatever evicted it."""
    function = bench.deploy("f")
    bench.want(function, LOADED)
    assert bench.slots.evict(str(function.ref))
    assert bench.look()[str(function.ref)].progress == Progress.DONE
    assert {"f"} == bench.resident()


def test_a_want_that_is_taken_back_keeps_nothing(bench: Bench) -> None:
    """As when the function is removed."""
    function = bench.deploy("f")
    bench.want(function, LOADED)
    bench.wanted.clear()
    assert bench.look() == {}
    assert bench.resident() == set()
    assert bench.parts.library.kept == set()
