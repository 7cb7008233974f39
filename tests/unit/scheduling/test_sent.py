"""What went before a job that waited."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from contract.function import FunctionRef
from contract.job import JobId
from contract.trail import MOST_NAMED, Planned
from workers.scheduling.records import Dispatch, PendingJob
from workers.scheduling.sent import Sent


def dispatch(*jobs: tuple[str, float]) -> Dispatch:
    """A group of jobs: function and when each was accepted."""
    found = (
        PendingJob(JobId(f"{k:024d}"), FunctionRef(name, 1), 1, 1e9, 1e9, accepted_at_s)
        for k, (name, accepted_at_s) in enumerate(jobs)
    )
    return Dispatch("w", tuple(found), 0.5)


def test_what_was_sent_while_a_job_waited_went_before_it() -> None:
    """Not what was sent before it came; each job of a group has waited for as long as it did."""
    sent = Sent()
    sent.note(dispatch(("a", 0.0)), 1.0)
    sent.note(dispatch(("b", 0.0), ("b", 0.0), ("c", 1.0)), 3.0)
    sent.note(dispatch(("a", 2.0)), 4.0)
    notes = sent.explain(dispatch(("a", 3.5), ("a", 0.5), ("a", 4.5)), 5.0)
    assert notes == [
        Planned(5.0, 0.5, 1, [("a", 1)]),
        Planned(5.0, 0.5, 5, [("a", 2), ("b", 2), ("c", 1)]),
        Planned(5.0, 0.5, 0),
    ]


def test_a_job_that_waited_longer_than_is_remembered_had_at_least_so_many_before_it() -> None:
    """What is remembered is bounded, and the note says so."""
    sent = Sent(kept=2)
    for at_s in (1.0, 2.0, 3.0):
        sent.note(dispatch(("a", 0.0)), at_s)
    early, late = sent.explain(dispatch(("b", 0.5), ("b", 1.5)), 4.0)
    assert (early.before, early.is_at_least) == (2, True)
    assert (late.before, late.is_at_least) == (2, False)


NAMES = st.sampled_from("abcde")
TIMES = st.integers(0, 20).map(float)


@given(
    st.lists(st.tuples(TIMES, st.lists(NAMES, min_size=1, max_size=4)), max_size=20),
    st.lists(TIMES, min_size=1, max_size=8),
)
def test_notes_count_what_a_plain_search_finds(
    groups: list[tuple[float, list[str]]], accepted_at_s: list[float]
) -> None:
    """In whatever order the jobs of the group came; and few functions are named, with the most."""
    groups.sort(key=lambda group: group[0])
    sent = Sent()
    for at_s, names in groups:
        sent.note(dispatch(*[(name, 0.0) for name in names]), at_s)
    notes = sent.explain(dispatch(*[("a", at_s) for at_s in accepted_at_s]), 30.0)
    for since_s, note in zip(accepted_at_s, notes, strict=True):
        before = Counter(name for at_s, names in groups if at_s > since_s for name in names)
        assert note.before == before.total()
        named = dict(note.before_of)
        assert len(named) == min(MOST_NAMED, len(before))
        assert all(before[name] == count for name, count in named.items())
        assert sum(named.values()) == sum(sorted(before.values())[-MOST_NAMED:])
        assert Planned.decode(note.encode()) == note._replace(before_of=tuple(note.before_of))
