"""When a cron trigger fires: pure, with the time as an argument. Times are Unix seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import floor
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from contract.errors import InvalidInput

if TYPE_CHECKING:
    from croniter import croniter

MAX_SCHEDULE_CHARS = 100
MAX_ZONE_CHARS = 64
MISSED = ("skip", "one", "all")
# A tick that is later than this was missed: a takeover takes less.
GRACE_S = 10.0
# Of the missed ones `all` makes up for so many, the newest.
MAX_MADE_UP = 1_000
# A leap day may be eight years away.
MAX_YEARS = 9
# croniter's fields that stand for a random or a hashed moment
_RANDOM = re.compile(r"[hr](\(.*\))?(/\d+)?", re.IGNORECASE)


class Schedule:
    """The ticks of a cron expression in a time zone; all are whole seconds."""

    def __init__(self, expression: str, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._ticks = _parse(expression)

    def after(self, at_s: float) -> float:
        """The first tick after a moment."""
        self._start(at_s)
        tick_s: float = self._ticks.get_next(float)
        return tick_s

    def until(self, at_s: float) -> float:
        """The last tick at or before a moment."""
        self._start(floor(at_s) + 1)
        tick_s: float = self._ticks.get_prev(float)
        return tick_s

    def _start(self, at_s: float) -> None:
        moment = datetime.fromtimestamp(floor(at_s), UTC).astimezone(self._zone)
        self._ticks.set_current(moment, force=True)


class Due(NamedTuple):
    """What a schedule asks for at a moment."""

    # to fire now, oldest first
    ticks: tuple[float, ...]
    # whether ticks were passed over
    is_gap: bool
    next_s: float


def due(schedule: Schedule, place_s: float, now_s: float, missed: str) -> Due:
    """Ticks in (place, now], those later than GRACE_S by the rule for missed ones."""
    edge_s = max(place_s, now_s - GRACE_S)
    late, is_gap = _made_up(schedule, place_s, edge_s, missed)
    in_time: list[float] = []
    tick_s = schedule.after(edge_s)
    while tick_s <= now_s:
        in_time.append(tick_s)
        tick_s = schedule.after(tick_s)
    return Due((*late, *in_time), is_gap, tick_s)


def _made_up(
    schedule: Schedule, place_s: float, edge_s: float, missed: str
) -> tuple[list[float], bool]:
    """Missed ticks in (place, edge] that are fired after all, and whether there are others."""
    most = {"skip": 0, "one": 1, "all": MAX_MADE_UP}[missed]
    found: list[float] = []
    if edge_s <= place_s:
        return found, False
    tick_s = schedule.until(edge_s)
    while tick_s > place_s and len(found) < most:
        found.append(tick_s)
        tick_s = schedule.until(tick_s - 1)
    return found[::-1], tick_s > place_s


def check_schedule(expression: str, zone: str, now_s: float) -> None:
    """Raise InvalidInput unless this is a schedule with a tick to come."""
    from croniter import CroniterError

    if len(expression) > MAX_SCHEDULE_CHARS:
        expected = f"at most {MAX_SCHEDULE_CHARS} characters"
        raise InvalidInput.of("cron.schedule", expected, f"{len(expression)}")
    expected = "five fields (minute hour day month weekday), or six with seconds as the last"
    fields = expression.split()
    if not expression.startswith("@") and len(fields) not in (5, 6):
        raise InvalidInput.of("cron.schedule", expected, repr(expression))
    if any(_RANDOM.fullmatch(field) for field in fields):
        raise InvalidInput.of("cron.schedule", "no random or hashed fields", repr(expression))
    _check_zone(zone)
    try:
        Schedule(expression, zone).after(now_s)
    except (CroniterError, ValueError, OverflowError) as error:
        raise InvalidInput.of("cron.schedule", expected, f"{expression!r} ({error})") from error


def _check_zone(zone: str) -> None:
    try:
        if len(zone) > MAX_ZONE_CHARS:
            raise ValueError("too long")
        ZoneInfo(zone)
    # a name that leads out of the folder of zones is a ValueError, one of a folder an OSError
    except (KeyError, ValueError, OSError) as error:
        expected = "a zone of the IANA database such as Europe/Berlin"
        raise InvalidInput.of("cron.timezone", expected, repr(zone[:MAX_ZONE_CHARS])) from error


def _parse(expression: str) -> croniter:
    # 40 ms, which a gateway that never makes a cron trigger saves
    from croniter import croniter

    return croniter(expression, max_years_between_matches=MAX_YEARS)
