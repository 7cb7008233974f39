"""The policy, as histories written down as data, and what must hold for any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.job import JobId
from contract.store.queue import GroupReport
from workers.scheduling.costs import Costs
from workers.scheduling.pending import Pending
from workers.scheduling.policies.laxity import LeastLaxity
from workers.scheduling.records import Dispatch, FunctionView, Limits, PendingJob, Plan, WorkerView

MB = 10**6
NOW_S = 1_000.0
A, B, C = (FunctionRef(name, 1) for name in "abc")
FUNCTIONS = {
    A: FunctionView(40 * MB, lambda rows: rows * MB, max_batch=8, is_batchable=True),
    B: FunctionView(40 * MB, lambda rows: rows * MB, max_batch=8, is_batchable=True),
    C: FunctionView(40 * MB, lambda rows: rows * MB, max_batch=1, is_batchable=False),
}
LIMITS = Limits(functions=8, jobs=16)


def job(number: int, function: FunctionRef = A, rows: int = 1, due_in_s: float = 30) -> PendingJob:
    """A job that is due and worthless at the same moment."""
    at_s = NOW_S + due_in_s
    return PendingJob(JobId(f"{number:024d}"), function, rows, at_s, at_s)


def worker(
    name: str = "w", places: int = 1, budget_mb: int = 1000, *has: FunctionRef
) -> WorkerView:
    """A worker with free places."""
    return WorkerView(name, places, budget_mb * MB, frozenset(has))


def waiting(
    jobs: Iterable[PendingJob],
    functions: Mapping[FunctionRef, FunctionView] = FUNCTIONS,
    used_s: Mapping[str, float] = MappingProxyType({}),
) -> Pending:
    """These jobs, of functions that have had these shares."""
    pending = Pending()
    pending.functions.update(functions)
    for job in jobs:
        pending.add(job)
    pending.shares.used_s.update(used_s)
    return pending


def plan(
    jobs: Iterable[PendingJob],
    workers: Sequence[WorkerView],
    functions: Mapping[FunctionRef, FunctionView],
    costs: Costs,
    limits: Limits,
    now_s: float,
    used_s: Mapping[str, float] = MappingProxyType({}),
) -> Plan:
    """What the default policy decides."""
    pending = waiting(jobs, functions, used_s)
    return LeastLaxity(limits).plan(pending, workers, costs, now_s)


def groups(*jobs: PendingJob, workers: list[WorkerView], limits: Limits = LIMITS) -> list[Dispatch]:
    """What is dispatched."""
    return plan(jobs, workers, FUNCTIONS, Costs(), limits, NOW_S).dispatches


def members(*jobs: PendingJob, workers: list[WorkerView]) -> list[tuple[PendingJob, ...]]:
    """The jobs of each group."""
    return [dispatch.jobs for dispatch in groups(*jobs, workers=workers)]


def test_a_group_is_sent_ahead_only_where_that_hides_something() -> None:
    """Behind a long run, or to bring in weights or run hooks; else it is left to grow."""
    resident = frozenset([A])
    short = WorkerView("w", 1, 1000 * MB, resident, under_way_s=0.001)
    long = replace(short, under_way_s=0.1)
    assert members(job(1, A), workers=[short]) == []
    assert members(job(1, A), workers=[long]) == [(job(1, A),)]
    assert members(job(1, B), workers=[short]) == [(job(1, B),)]
    hooked = {A: replace(FUNCTIONS[A], has_hooks=True)}
    assert len(plan([job(1, A)], [short], hooked, Costs(), LIMITS, NOW_S).dispatches) == 1


def test_a_worker_gets_no_more_of_a_function_whose_hooks_are_behind() -> None:
    """Others go on; another worker may have it; with no such worker its jobs wait."""
    slow = replace(worker("slow"), behind=frozenset([A]))
    first, second = job(1, A, due_in_s=1), job(2, B)
    assert members(first, second, workers=[slow]) == [(second,)]
    assert members(first, workers=[slow]) == []
    found = groups(first, second, workers=[slow, worker("free")])
    assert {(d.worker, d.jobs) for d in found} == {("free", (first, second))}


def test_jobs_of_different_functions_run_as_one_group() -> None:
    """That is what the platform is for."""
    one, two = job(1, A), job(2, B)
    assert members(one, two, workers=[worker()]) == [(one, two)]


def test_an_eager_function_shares_its_group_with_no_other() -> None:
    """Neither where its job comes first nor where it comes later; its own jobs come along."""
    functions = FUNCTIONS | {B: replace(FUNCTIONS[B], is_eager=True)}
    graph, eager, more = job(1, A, due_in_s=1), job(2, B, due_in_s=2), job(3, B, due_in_s=3)

    def found(*jobs: PendingJob) -> list[tuple[PendingJob, ...]]:
        one_place = [worker(places=1)]
        return [d.jobs for d in plan(jobs, one_place, functions, Costs(), LIMITS, NOW_S).dispatches]

    assert found(graph, eager, more) == [(graph,)]
    assert found(replace(graph, due_at_s=eager.due_at_s + 9), eager, more) == [(eager, more)]


def test_a_free_worker_gets_a_lone_job_at_once() -> None:
    """Nothing waits for company."""
    assert members(job(1), workers=[worker()]) == [(job(1),)]


def test_nothing_is_dispatched_to_a_busy_worker() -> None:
    """Jobs wait, and the next group grows."""
    assert groups(job(1), workers=[worker(places=0)]) == []


def test_the_most_urgent_job_comes_first_and_ties_go_by_acceptance() -> None:
    """Urgency is when the answer is due."""
    late, early, second = job(1, due_in_s=30), job(2, due_in_s=5), job(3, due_in_s=5)
    [group] = groups(late, second, early, workers=[worker()])
    assert group.jobs == (early, second, late)


def test_rows_of_a_function_stay_within_its_largest_batch() -> None:
    """A larger job waits for the next group; a smaller one behind it may go."""
    big, bigger, small = job(1, rows=5), job(2, rows=5), job(3, rows=3)
    [group] = groups(big, bigger, small, workers=[worker()])
    assert group.jobs == (big, small)


def test_jobs_of_a_function_that_mixes_rows_never_share_a_run() -> None:
    """Rows of different callers would change each other's answers."""
    assert [len(group.jobs) for group in groups(job(1, C), job(2, C), workers=[worker()])] == [1]


def test_a_group_fits_the_budget() -> None:
    """Weights and activations of all members together."""
    [group] = groups(job(1, A), job(2, B), workers=[worker(budget_mb=80)])
    assert [member.function for member in group.jobs] == [A]
    [group] = groups(job(1, A), job(2, B), workers=[worker(budget_mb=82)])
    assert [member.function for member in group.jobs] == [A, B]


def test_functions_that_share_weights_are_counted_as_they_are_held() -> None:
    """Side by side in 45 MB they fit; where only one is resident, nobody knows yet."""
    both = replace(worker("w", 1, 50, A, B), resident_bytes=45 * MB)
    [group] = groups(job(1, A), job(2, B), workers=[both])
    assert [member.function for member in group.jobs] == [A, B]
    [group] = groups(job(1, A), job(2, B), workers=[replace(both, resident=frozenset([A]))])
    assert [member.function for member in group.jobs] == [A]


def test_a_function_too_large_for_the_budget_goes_alone() -> None:
    """The worker refuses it with the bytes it would need; it must not wait for ever."""
    [group] = groups(job(1, A), job(2, B), workers=[worker(budget_mb=10)])
    assert len(group.jobs) == 1


def test_jobs_of_a_function_that_runs_in_blocks_share_a_group_with_no_other() -> None:
    """Its weights are never there as a whole; its jobs are joined as far as activations fit."""
    small = worker(budget_mb=5)
    jobs = [job(1, A, rows=2), job(2, B), job(3, A, rows=3), job(4, A)]
    assert members(*jobs, workers=[small]) == [(jobs[0], jobs[2])]


def test_no_member_makes_another_miss_its_deadline() -> None:
    """A group ends when its last member ends."""
    costs = Costs()
    costs.learn(GroupReport("g", "w", [("b", 1, 1)], 10.0, 0.0, 0.0))
    urgent, slow = job(1, A, due_in_s=1), job(2, B, due_in_s=60)
    [group] = plan([urgent, slow], [worker()], FUNCTIONS, costs, LIMITS, NOW_S).dispatches
    assert group.jobs == (urgent,)


def test_a_worker_that_has_the_weights_is_preferred() -> None:
    """Swapping costs more than a shorter queue gains."""
    free, resident = worker("free", 2), worker("resident", 1, 1000, A)
    assert groups(job(1, A), workers=[free, resident])[0].worker == "resident"


def test_every_free_place_is_used_while_jobs_wait() -> None:
    """Work-conserving."""
    dispatches = groups(*(job(n, C) for n in range(5)), workers=[worker(places=2), worker("v", 1)])
    assert sorted(dispatch.worker for dispatch in dispatches) == ["v", "w", "w"]


JOBS = st.builds(
    job,
    st.integers(0, 10**6),
    st.sampled_from([A, B, C]),
    st.integers(1, 1),
    st.floats(0.001, 60),
)
WORKERS = st.builds(worker, st.sampled_from("uvw"), st.integers(0, 3), st.integers(1, 300))


@given(
    st.lists(JOBS, max_size=40, unique_by=lambda j: j.id),
    st.lists(WORKERS, max_size=3, unique_by=lambda w: w.id),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_any_plan_is_sound(
    jobs: list[PendingJob], workers: list[WorkerView], functions: int, most: int
) -> None:
    """No job twice, none invented, bounds kept, places never overdrawn, none left idle."""
    limits = Limits(functions, most)
    decided = plan(jobs, workers, FUNCTIONS, Costs(), limits, NOW_S)
    given_away = [member for dispatch in decided.dispatches for member in dispatch.jobs]
    assert len(set(given_away)) == len(given_away)
    assert set(given_away) <= set(jobs)
    for view in workers:
        mine = [d for d in decided.dispatches if d.worker == view.id]
        assert len(mine) <= view.free_places
    for dispatch in decided.dispatches:
        members = {member.function for member in dispatch.jobs}
        assert 1 <= len(dispatch.jobs) <= most
        assert len(members) <= functions
        for ref in members:
            rows = sum(member.rows for member in dispatch.jobs if member.function == ref)
            assert rows <= FUNCTIONS[ref].max_batch
    used = {dispatch.worker for dispatch in decided.dispatches}
    with_places = {view.id for view in workers if view.free_places}
    assert used == with_places or len(given_away) == len(jobs)
