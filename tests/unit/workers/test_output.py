"""What of a function's output reaches its log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.handlers.output import (
    CALL_BYTES,
    CALL_LINES,
    LINE_BYTES,
    SECOND_LINES,
    Allowance,
    OutputLines,
)

Line = tuple[int, str, str]


def fed(lines: OutputLines, *chunks: bytes, now_s: float = 0.0) -> list[Line]:
    """What is logged of these reads."""
    found: list[Line] = []

    def keep(item: int, level: str, text: str) -> None:
        found.append((item, level, text))

    for chunk in chunks:
        lines.feed(chunk, now_s, keep)
    lines.end(now_s, keep)
    return found


def test_lines_go_to_the_item_whose_mark_precedes_them() -> None:
    """Wherever the reads cut them."""
    found = fed(OutputLines("info", Allowance()), b"a\nb", b"c\n\n\0", b"3\nd")
    assert found == [(0, "info", "a"), (0, "info", "bc"), (3, "info", "d")]


def test_a_mark_that_is_none_is_not_read_as_one() -> None:
    """A function can write the byte itself."""
    found = fed(OutputLines("info", Allowance()), "\0\u00b2\n\0x\nstill\n".encode())
    assert found == [(0, "info", "still")]


def test_what_is_over_the_bound_of_a_call_is_counted() -> None:
    """One line says how much."""
    lines = OutputLines("info", Allowance())
    *kept, last = fed(lines, b"12345\n" * (CALL_LINES + 100))
    assert len(kept) == CALL_LINES
    assert last == (0, "error", f"{6 * 100} more bytes were printed and are dropped")


def test_many_small_calls_share_the_bound_of_their_second() -> None:
    """And the next second has its own."""
    allowance = Allowance()
    lines = OutputLines("info", allowance)

    def call(now_s: float) -> int:
        allowance.begin()
        lines.begin()
        return len([line for line in fed(lines, b"x\n" * 100, now_s=now_s) if line[1] == "info"])

    assert sum(call(7.0 + i / 100) for i in range(20)) == SECOND_LINES
    assert call(8.0) == 100


@given(st.lists(st.binary(max_size=9000) | st.just(b"\n\0" + b"1\n" * 400), max_size=30))
def test_any_output_stays_within_the_bounds(chunks: list[bytes]) -> None:
    """Lines, bytes of a line, bytes of a call; nothing is raised."""
    found = fed(OutputLines("info", Allowance()), *chunks)
    kept = [text for _, level, text in found if level == "info"]
    assert len(kept) <= CALL_LINES
    assert len(found) - len(kept) <= 1
    assert max(map(len, kept), default=0) <= LINE_BYTES
    assert sum(map(len, kept)) <= CALL_BYTES
