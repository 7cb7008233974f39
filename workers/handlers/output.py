"""What a function prints: cut into lines, given to the item that printed them, bounded."""

from __future__ import annotations

from collections.abc import Callable

from workers.handlers.frames import MARK

LINE_BYTES = 4_000
# Each batch may print this much, and all batches of a host together this much in each second.
CALL_LINES, CALL_BYTES = 200, 64_000
SECOND_LINES, SECOND_BYTES = 500, 128_000
_MARK = b"\n" + MARK.encode()

# (item of the batch, level, text)
OnLine = Callable[[int, str, str], None]


class Allowance:
    """Lines and bytes that a host's streams may still print in this call and this second."""

    def __init__(self) -> None:
        self._second = 0
        self._in_second = (0, 0)
        self.begin()

    def begin(self) -> None:
        """A new call starts; the second goes on."""
        self._in_call = (0, 0)

    def take(self, size_bytes: int, now_s: float) -> bool:
        """Whether a line of this size may still be kept."""
        if int(now_s) != self._second:
            self._second, self._in_second = int(now_s), (0, 0)
        call = (self._in_call[0] + 1, self._in_call[1] + size_bytes)
        second = (self._in_second[0] + 1, self._in_second[1] + size_bytes)
        if (
            call[0] > CALL_LINES
            or call[1] > CALL_BYTES
            or second[0] > SECOND_LINES
            or second[1] > SECOND_BYTES
        ):
            return False
        self._in_call, self._in_second = call, second
        return True


class OutputLines:
    """One output stream of a host; what is over the allowance is counted and dropped."""

    def __init__(self, level: str, allowance: Allowance) -> None:
        self._level = level
        self._allowance = allowance
        self._partial = b""
        self.begin()

    def begin(self) -> None:
        """A new batch starts."""
        self._item = 0
        self._dropped_bytes = 0

    @property
    def is_flooded(self) -> bool:
        """Whether this batch has printed more than is kept."""
        return self._dropped_bytes > 0

    def feed(self, data: bytes, now_s: float, on_line: OnLine) -> None:
        """Take in what was read."""
        if self.is_flooded:
            self._skip(data)
            return
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = b""
        for i, line in enumerate(lines):
            if not self._take(line, now_s, on_line):
                self._skip(b"\n".join([b"", *lines[i + 1 :], rest]))
                return
        # what is over the bound of a line is lost, not held
        self._partial = rest[:LINE_BYTES]

    def end(self, now_s: float, on_line: OnLine) -> None:
        """The batch is over: the last line counts without its newline."""
        if not self.is_flooded:
            self._take(self._partial, now_s, on_line)
        self._partial = b""
        if self.is_flooded:
            text = f"{self._dropped_bytes} more bytes were printed and are dropped"
            on_line(self._item, "error", text)
            self._dropped_bytes = 0

    def _skip(self, data: bytes) -> None:
        """Count only: cutting a flood into lines would cost the worker what it costs the host."""
        self._dropped_bytes += len(data)
        at = data.rfind(_MARK)
        if at >= 0:
            self._mark(data[at + len(_MARK) : at + 12].partition(b"\n")[0].decode("latin-1"))

    def _take(self, line: bytes, now_s: float, on_line: OnLine) -> bool:
        """False for the first line that is over the allowance."""
        text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        if text.startswith(MARK):
            self._mark(text[1:])
        elif text and not self._allowance.take(len(line), now_s):
            self._dropped_bytes += len(line)
            return False
        elif text:
            on_line(self._item, self._level, text)
        return True

    def _mark(self, digits: str) -> None:
        if digits.isascii() and digits.isdigit():
            self._item = int(digits[:8])
