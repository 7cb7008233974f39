"""When a cron trigger fires: held against a walk over every second and minute of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import floor
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidInput
from gateway.triggers.cron import GRACE_S, MAX_MADE_UP, Schedule, check_schedule, due

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC).timestamp()
MINUTES = [f"*/{step} * * * *" for step in (1, 2, 7, 15)] + ["3,4 */2 * * *", "59 23 * * *"]
moments = st.floats(NOON - 3e7, NOON + 3e7)


def ticks(expression: str, begin_s: float, end_s: float, zone: str = "UTC") -> list[float]:
    """Ticks in (begin, end], by stepping."""
    schedule, found = Schedule(expression, zone), []
    at_s = schedule.after(begin_s)
    while at_s <= end_s:
        found.append(at_s)
        at_s = schedule.after(at_s)
    return found


@given(st.sampled_from(MINUTES), moments)
def test_no_minute_is_left_out_and_none_is_added(expression: str, at_s: float) -> None:
    """Of the minutes of six hours, those that the fields name."""
    field = expression.split()[0]
    hours = expression.split()[1]

    def is_named(moment: datetime) -> bool:
        minutes = range(0, 60, int(field[2:])) if field[0] == "*" else map(int, field.split(","))
        by_hour = {"*": range(24), "*/2": range(0, 24, 2), "23": [23]}[hours]
        return moment.minute in minutes and moment.hour in by_hour

    begin = datetime.fromtimestamp(floor(at_s), UTC)
    first = begin.replace(second=0, microsecond=0) + timedelta(minutes=1)
    minutes = [first + timedelta(minutes=n) for n in range(360)]
    expected = [moment.timestamp() for moment in minutes if is_named(moment)]
    assert expected == ticks(expression, at_s, minutes[-1].timestamp())


@given(st.sampled_from([*MINUTES, "*/5 * * * * */10"]), moments)
def test_backward_is_forward_again(expression: str, at_s: float) -> None:
    """The last tick until a moment is the one before the next."""
    schedule = Schedule(expression, "UTC")
    last_s = schedule.until(at_s)
    assert last_s <= at_s < schedule.after(last_s) == schedule.after(at_s)
    assert schedule.until(last_s) == last_s


@settings(max_examples=30)
@given(
    st.sampled_from(["* * * * * *", "* * * * *", "*/7 * * * *"]),
    st.floats(0, 2_000),
    st.sampled_from(["skip", "one", "all"]),
)
def test_what_is_due_is_what_the_rule_for_missed_ticks_says(
    expression: str, away_s: float, missed: str
) -> None:
    """Ticks of the last seconds always; of older ones none, the newest, or the newest thousand."""
    place_s, now_s = NOON + 0.5, NOON + 0.5 + away_s
    every = ticks(expression, place_s, now_s)
    in_time = [tick for tick in every if tick > now_s - GRACE_S]
    late = [tick for tick in every if tick <= now_s - GRACE_S]
    most = {"skip": 0, "one": 1, "all": MAX_MADE_UP}[missed]
    made_up = late[-most:] if most else []
    found = due(Schedule(expression, "UTC"), place_s, now_s, missed)
    assert (*made_up, *in_time) == found.ticks
    assert (len(made_up) < len(late)) == found.is_gap
    assert found.next_s == Schedule(expression, "UTC").after(now_s)


@settings(max_examples=30)
@given(st.sampled_from(["skip", "one", "all"]), st.lists(st.floats(0.1, 40), max_size=30))
def test_no_tick_is_fired_twice_however_often_it_is_asked(missed: str, steps: list[float]) -> None:
    """The place after a look is that look's moment."""
    schedule, fired, place_s = Schedule("* * * * * *", "UTC"), [], NOON
    now_s = NOON
    for step_s in steps:
        now_s += step_s
        fired += due(schedule, place_s, now_s, missed).ticks
        place_s = now_s
    assert fired == sorted(set(fired))
    if missed == "all":
        assert fired == ticks("* * * * * *", NOON, now_s)


@pytest.mark.parametrize(
    ("expression", "day", "expected"),
    [
        # the clock goes from 2 to 3: a time that is not there comes when the gap ends
        ("30 2 * * *", datetime(2026, 3, 29), 1),
        # from 3 back to 2: a time that is there twice comes twice
        ("30 2 * * *", datetime(2026, 10, 25), 2),
        ("0 12 * * *", datetime(2026, 10, 25), 1),
    ],
)
def test_a_time_of_day_comes_as_often_as_it_is_there_where_clocks_change(
    expression: str, day: datetime, expected: int
) -> None:
    """In Berlin."""
    begin = day.replace(tzinfo=ZoneInfo("Europe/Berlin"))
    end = (day + timedelta(days=1)).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    found = ticks(expression, begin.timestamp(), end.timestamp() - 1, "Europe/Berlin")
    assert expected == len(found)


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "61 * * * *", "0 0 30 2 *", "R * * * *", "r(1-3) * * * *", "H * * * *",
     "* * * * * * 2030", "a b c d e", "*" * 200, "@never", "*/0 * * * *"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    """Naming the field."""
    with pytest.raises(InvalidInput, match=r"^cron.schedule: expected"):
        check_schedule(expression, "UTC", NOON)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "x" * 100])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    """Also names that lead elsewhere."""
    with pytest.raises(InvalidInput, match=r"^cron.timezone: expected"):
        check_schedule("* * * * *", zone, NOON)
