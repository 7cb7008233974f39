"""Ways to run an architecture: the fastest stays, a wrong one goes, nobody's result changes."""

import threading
import time

import pytest
import torch

from fusion.strategies.choice import TRIAL_RUNS, WARM_RUNS
from fusion.tiers import COMPILED, GENERATED, ONEDNN, Tiers

TRIALS = WARM_RUNS + TRIAL_RUNS
X = [torch.ones(2, 3)]


def _double(_, inputs):
    return [inputs[0] * 2]


def _settle(tiers: Tiers, rows: int = 2) -> None:
    for _ in range(TRIALS * len(tiers.names)):
        tiers.run(rows, [], X)
    assert tiers.is_settled(rows)


def _slow(run, seconds=0.002):
    def slowed(weights, inputs):
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            pass
        return run(weights, inputs)

    return slowed


def test_generated_code_alone_needs_no_trials():
    """Nothing is measured."""
    tiers = Tiers(_double)
    assert tiers.is_settled(1)
    torch.testing.assert_close(tiers.run(1, [], X), [X[0] * 2])
    assert tiers.measured() == {}


def test_the_fastest_is_found_for_each_number_of_rows():
    """By its own trials."""
    tiers = Tiers(_slow(_double))
    tiers.add(COMPILED, _double)
    assert not tiers.is_settled(2)
    _settle(tiers)
    assert (tiers.best(2), tiers.best(4)) == (COMPILED, GENERATED)
    assert set(tiers.measured()[2]) == {GENERATED, COMPILED}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_tier_that_lacks_memory_stays(error):
    """Generated code answers in its place; with fewer rows it is as good as it was."""

    def starved(_weights, inputs):
        raise error

    tiers = Tiers(_double)
    tiers.add(COMPILED, starved)
    for _ in range(TRIALS):
        torch.testing.assert_close(tiers.run(2, [], X), [X[0] * 2])
    assert (tiers.names, tiers.dropped) == ((GENERATED, COMPILED), {})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _, x: [x[0] * 3],
        lambda _, x: [x[0][:1] * 2],
        lambda _, x: [(x[0] * 2).double()],
        lambda _, x: [],
        lambda _, x: [x[0] * 2, x[0]],
        lambda _, x: [x[0] * float("nan")],
        lambda _, x: x[9],
    ],
    ids=["values", "rows", "dtype", "none", "too many", "nan", "raises"],
)
def test_a_tier_that_is_wrong_is_dropped_before_anyone_gets_its_values(wrong):
    """Its first outputs are compared with those of generated code."""
    tiers = Tiers(_double)
    tiers.add(ONEDNN, wrong)
    for _ in range(2 * TRIALS):
        torch.testing.assert_close(tiers.run(2, [], X), [X[0] * 2])
    assert tiers.names == (GENERATED,)
    assert ONEDNN in tiers.dropped


def test_a_job_that_is_at_fault_drops_no_tier():
    """Generated code fails on it as well, and says why."""

    def refusing(_, inputs):
        raise IndexError("row 7 of 3") if len(inputs) > 1 else RuntimeError("never")

    def working(weights, inputs):
        return refusing(weights, inputs) if len(inputs) > 1 else _double(weights, inputs)

    tiers = Tiers(working)
    tiers.add(COMPILED, working)
    for _ in range(3):
        with pytest.raises(IndexError, match="row 7"):
            tiers.run(2, [], X * 2)
    assert tiers.names == (GENERATED, COMPILED)


def test_what_earlier_runs_measured_is_used_and_given_on():
    """Only a tier that is new has trials; what is known of one that is gone is forgotten."""
    tiers = Tiers(_double)
    tiers.know({2: {GENERATED: 2.0, COMPILED: 1.0}})
    tiers.add(COMPILED, _double)
    assert (tiers.is_settled(2), tiers.best(2)) == (True, COMPILED)
    tiers.add(ONEDNN, _double)
    assert not tiers.is_settled(2)
    assert tiers.measured() == {2: {GENERATED: 2.0, COMPILED: 1.0}}


def test_beside_others_runs_what_lets_them_run():
    """Compiled packages keep Python's lock: alone they may be the fastest, side by side never."""
    runs = []
    tiers = Tiers(lambda w, x: runs.append(GENERATED) or _double(w, x))
    for name in (ONEDNN, COMPILED):
        tiers.add(name, lambda w, x, name=name: runs.append(name) or _double(w, x))
    for onednn_s, beside in ((2.0, ONEDNN), (4.0, GENERATED)):
        tiers.know({2: {GENERATED: 3.0, ONEDNN: onednn_s, COMPILED: 1.0}})
        assert tiers.best(2) == COMPILED
        tiers.run_beside(2, [], X)
        assert beside in runs
        assert COMPILED not in runs
        runs.clear()


def test_the_fastest_runs_beside_others_unmeasured_but_proven():
    """Many threads at once, while tiers come and go."""
    tiers = Tiers(_slow(_double, 0.0005))
    tiers.know({2: {GENERATED: 2.0, COMPILED: 1.0}})
    failures = []

    def work():
        for _ in range(200):
            (found,) = tiers.run_beside(2, [], X)
            if not torch.equal(found, X[0] * 2):
                failures.append(found)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    tiers.add(COMPILED, _double)
    tiers.add(ONEDNN, lambda _, x: [x[0] * 3])
    for thread in threads:
        thread.join()
    assert failures == []
