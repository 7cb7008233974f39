"""What is remembered of functions: counts, ages, thrash, and no more than fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.history import SETTLE_S, THRASH_LOADS, THRASH_S, History


def lived(history: History, key: str, from_s: float, until_s: float) -> None:
    """In, used, and out for others."""
    history.asked(key, from_s)
    history.loaded(key, 0.5, from_s + 0.5)
    history.released(key, from_s + 1)
    history.evicted(key, until_s, is_pushed_out=True)


def test_ages_at_eviction_are_since_the_last_use_and_since_it_came_in() -> None:
    """Sums for rates, and those of the newest eviction."""
    history = History()
    lived(history, "a", 0.0, 10.0)
    lived(history, "a", 100.0, 104.0)
    past = history.of("a")
    assert (past.loads, past.evictions, past.load_s) == (2, 2, 1.0)
    assert (past.idle_s, past.last_idle_s) == (9.0 + 3.0, 3.0)
    assert (past.stayed_s, past.last_stayed_s) == (9.5 + 3.5, 3.5)


@pytest.mark.parametrize(
    ("away_s", "load_s", "is_thrash"),
    [
        (THRASH_S * 0.9, 0.001, True),
        (THRASH_S * 1.1, 0.001, False),
        (THRASH_LOADS * 2.0 * 0.9, 2.0, True),
        (THRASH_LOADS * 2.0 * 1.1, 2.0, False),
    ],
)
def test_thrash_is_a_load_soon_after_an_eviction(
    away_s: float, load_s: float, is_thrash: bool
) -> None:
    """Within a second, or ten times what the load takes, of when it began."""
    history = History()
    lived(history, "a", 0.0, 10.0)
    history.loaded("a", load_s, 10.0 + away_s + load_s)
    assert (history.thrash, history.of("a").thrash) == (is_thrash, is_thrash)


def test_who_left_by_himself_does_not_thrash() -> None:
    """Nobody needed the room: a keep-alive has ended, or an operator wished it."""
    history = History()
    history.loaded("a", 0.1, 1.0)
    history.evicted("a", 2.0, is_pushed_out=False)
    history.loaded("a", 0.1, 2.1)
    assert history.thrash == 0


def test_the_first_load_is_not_what_a_reload_costs() -> None:
    """It compared digests."""
    history = History()
    history.loaded("a", 5.0, 5.0, was_on_disk=True, was_verified=False)
    assert history.of("a").reload_s is None
    history.evicted("a", 6.0, is_pushed_out=True)
    history.loaded("a", 1.0, 50.0)
    past = history.of("a")
    assert (past.reload_s, past.disk_loads, past.disk_load_s, past.load_s) == (1.0, 1, 5.0, 6.0)


def test_gaps_are_between_groups_that_ask() -> None:
    """Smoothed; the first is taken as it is."""
    history = History()
    for now_s in (0.0, 10.0, 15.0):
        history.asked("a", now_s)
        history.released("a", now_s + 1)
    assert history.of("a").gap_s == 10.0 + 0.2 * (5.0 - 10.0)


def test_who_came_in_settles_until_it_is_used_or_a_moment_has_passed() -> None:
    """The bound is what keeps a forgotten one from staying in the way."""
    history = History()
    assert not history.is_settling("a", 0.0)
    history.loaded("a", 0.1, 1.0)
    assert history.is_settling("a", 1.0 + SETTLE_S * 0.9)
    assert not history.is_settling("a", 1.0 + SETTLE_S)
    history.released("a", 1.1)
    assert not history.is_settling("a", 1.2)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["use", "push", "leave", "forget"])),
        max_size=60,
    )
)
def test_memory_is_bounded_and_residents_are_remembered(moves: list[tuple[str, str]]) -> None:
    """Any history: no more than are kept and resident; what is forgotten counts from nothing."""
    history, resident, loads = History(kept=3), set[str](), dict[str, int]()
    for now_s, (key, move) in enumerate(moves):
        if move == "forget" and key not in resident:
            history.forget(key)
        elif move == "use":
            history.asked(key, now_s)
            if key not in resident:
                history.loaded(key, 0.0, now_s)
                resident.add(key)
            history.released(key, now_s)
        elif key in resident:
            history.evicted(key, now_s, is_pushed_out=move == "push")
            resident.discard(key)
        assert len(history) <= max(3, len(resident))
        assert all(history.of(key).loaded_at_s is not None for key in resident)
        newest = history.newest(len("abcdefgh"))
        loads = {key: past.loads for key, past in newest.items()}
        for past in newest.values():
            assert past.loads - past.evictions == (past.loaded_at_s is not None)
            assert 0 <= past.thrash <= past.loads
            assert 0 <= past.idle_s <= past.stayed_s
    assert set(loads) >= resident
