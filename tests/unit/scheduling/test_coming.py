"""What workers are told of functions whose jobs wait."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from contract.function import FunctionRef
from tests.unit.scheduling.test_policy import FUNCTIONS, MB, NOW_S, A, B, C, job, waiting, worker
from workers.scheduling.coming import NAMED, coming
from workers.scheduling.costs import Costs
from workers.scheduling.records import PendingJob, WorkerView


def told(
    jobs: list[PendingJob], *workers: WorkerView, functions: dict = FUNCTIONS
) -> dict[str, tuple[FunctionRef, ...]]:
    return coming(waiting(jobs, functions), workers, Costs(), NOW_S)


def test_functions_are_named_in_the_order_of_their_jobs() -> None:
    """Each once, by the most urgent of its jobs; resident ones too, for they must stay."""
    jobs = [job(1, A, due_in_s=20), job(2, B, due_in_s=10), job(3, C, due_in_s=5), job(4, C)]
    assert told(jobs, worker("w", 0, 1000, B)) == {"w": (C, B, A)}


def test_a_function_is_named_to_the_worker_that_has_it() -> None:
    """Else to the one that was named the fewest."""
    jobs = [job(1, A, due_in_s=5), job(2, B, due_in_s=6), job(3, C, due_in_s=7)]
    found = told(jobs, worker("v"), worker("w", 1, 1000, A))
    assert found == {"v": (B, C), "w": (A,)}


def test_what_cannot_be_prefetched_is_not_named() -> None:
    """Larger than any budget, eager, or not known yet; who hears of none is told so."""
    functions = {
        A: replace(FUNCTIONS[A], weight_bytes=2000 * MB),
        B: replace(FUNCTIONS[B], is_eager=True),
    }
    assert told([job(1, A), job(2, B), job(3, C)], worker("w"), functions=functions) == {"w": ()}


@given(st.integers(0, 40), st.integers(0, 3))
def test_few_are_named_to_each_worker(count: int, workers: int) -> None:
    """However many functions wait."""
    refs = [FunctionRef(f"f{k}", 1) for k in range(count)]
    functions = dict.fromkeys(refs, FUNCTIONS[A])
    jobs = [job(k, ref) for k, ref in enumerate(refs)]
    found = told(jobs, *(worker(f"w{k}") for k in range(workers)), functions=functions)
    named = [ref for its in found.values() for ref in its]
    assert len(found) == workers
    assert all(len(its) <= NAMED for its in found.values())
    assert len(named) == len(set(named)) == min(count, NAMED * workers)
