"""Group commit: one round trip at a time, everybody who waits in the next."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from contract.errors import QueueFull, StoreUnavailable
from contract.job import JobSpec, Submission, new_job_id
from gateway.group_commit import MAX_BYTES, MAX_JOBS, GroupCommit, Refusal


def submission(name: str, payload: bytes = b"") -> Submission:
    """A job whose function's name tells it from others."""
    spec = JobSpec(new_job_id(), name, 1, 1, 0.0, 0.0, 0.0, "")
    return Submission(spec, payload, True, "")


class Store:
    """Commits when it is let, and remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.may_go = threading.Semaphore(0)

    def commit(self, group: Sequence[Submission]) -> list[Refusal]:
        """`full` is refused, a group with `broken` fails."""
        self.groups.append([member.spec.function for member in group])
        self.entered.release()
        assert self.may_go.acquire(timeout=10)
        if "broken" in self.groups[-1]:
            raise StoreUnavailable()
        return [QueueFull() if m.spec.function == "full" else None for m in group]


def waiting(commit: GroupCommit, count: int) -> None:
    """Return when this many wait for the next group."""
    deadline = threading.Event()
    while len(commit._waiting) < count:
        assert not deadline.wait(0.001)


def submit_behind_one(
    names: list[str], payload: bytes = b""
) -> tuple[Store, list[Future[Refusal]]]:
    """Submit these while the commit of `first` is under way, then let everything go."""
    store = Store()
    commit = GroupCommit(store.commit)
    pool = ThreadPoolExecutor(len(names) + 1)
    futures = [pool.submit(commit.submit, submission("first"))]
    assert store.entered.acquire(timeout=10)
    for i, name in enumerate(names):
        futures.append(pool.submit(commit.submit, submission(name, payload)))
        waiting(commit, i + 1)
    store.may_go.release(1000)
    pool.shutdown(wait=True)
    return store, futures


def test_those_who_wait_go_together() -> None:
    """While one call is under way the next group grows."""
    store, futures = submit_behind_one(["a", "b", "c"])
    assert store.groups == [["first"], ["a", "b", "c"]]
    assert [future.result() for future in futures] == [None] * 4


def test_a_lone_submission_goes_at_once_in_its_own_thread() -> None:
    """No thread, no timer."""
    threads: list[int] = []

    def commit(group: Sequence[Submission]) -> list[Refusal]:
        threads.append(threading.get_ident())
        return [None] * len(group)

    assert GroupCommit(commit).submit(submission("a")) is None
    assert threads == [threading.get_ident()]


def test_a_refusal_reaches_its_own_caller() -> None:
    """The others of the group are accepted."""
    _, futures = submit_behind_one(["a", "full", "b"])
    assert [type(future.result()) for future in futures] == [
        type(None),
        type(None),
        QueueFull,
        type(None),
    ]


def test_a_failure_reaches_everybody_and_the_next_group_goes_on() -> None:
    """Nobody takes the silence of the store for acceptance."""
    _, futures = submit_behind_one(["broken", "a"])
    for future in futures[1:]:
        with pytest.raises(StoreUnavailable):
            future.result()
    errors = [future.exception() for future in futures[1:]]
    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("count", "payload", "sizes"),
    [(5, b"x" * (MAX_BYTES // 2), [1, 2, 2, 1]), (3, b"x" * (MAX_BYTES + 1), [1, 1, 1, 1])],
)
def test_a_group_is_bounded_in_bytes(count: int, payload: bytes, sizes: list[int]) -> None:
    """An atomic move of the store holds up all others."""
    store, _ = submit_behind_one(["a"] * count, payload)
    assert sizes == [len(group) for group in store.groups]


def test_a_group_is_bounded_in_jobs() -> None:
    """So many that it does not matter, so few that nobody waits long."""
    seen: list[int] = []
    gate = threading.Event()

    def commit(group: Sequence[Submission]) -> list[Refusal]:
        seen.append(len(group))
        assert gate.wait(10)
        return [None] * len(group)

    committer = GroupCommit(commit)
    with ThreadPoolExecutor(MAX_JOBS + 11) as pool:
        pool.submit(committer.submit, submission("first"))
        while not seen:
            gate.wait(0.001)
        futures = [pool.submit(committer.submit, submission("a")) for _ in range(MAX_JOBS + 10)]
        waiting(committer, MAX_JOBS + 10)
        gate.set()
        assert [future.result() for future in futures] == [None] * (MAX_JOBS + 10)
    assert seen == [1, MAX_JOBS, 10]


def test_a_batch_is_committed_in_as_few_groups_as_it_fits() -> None:
    """Each with its own refusal; others ride along."""
    store = Store()
    store.may_go.release(1000)
    names = [f"f{i}" for i in range(MAX_JOBS)] + ["full", "last"]
    replies = GroupCommit(store.commit).submit_all([submission(name) for name in names])
    assert [len(group) for group in store.groups] == [MAX_JOBS, 2]
    assert [type(reply) for reply in replies[MAX_JOBS:]] == [QueueFull, type(None)]
    assert replies[:MAX_JOBS] == [None] * MAX_JOBS


def test_a_batch_waits_behind_a_commit_that_is_under_way() -> None:
    """And its errors are those of its own groups."""
    store = Store()
    commit = GroupCommit(store.commit)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(commit.submit, submission("first"))
        assert store.entered.acquire(timeout=10)
        batch = pool.submit(commit.submit_all, [submission("a"), submission("b")])
        waiting(commit, 2)
        other = pool.submit(commit.submit, submission("c"))
        waiting(commit, 3)
        store.may_go.release(1000)
        assert (first.result(10), batch.result(10), other.result(10)) == (None, [None, None], None)
    assert store.groups == [["first"], ["a", "b", "c"]]
    broken = commit.submit_all([submission("broken"), submission("d")])
    assert [type(reply) for reply in broken] == [StoreUnavailable, StoreUnavailable]
    assert commit.submit_all([]) == []
