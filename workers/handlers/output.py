"""What a function prints: cut into lines, given to the item that printed them, bounded."""

from __future__ import annotations

from collections.abc import Callable

from workers.handlers.frames import MARK

LINES = 200
LINE_BYTES = 4_000

# (item of the batch, level, text)
OnLine = Callable[[int, str, str], None]


class OutputLines:
    """One output stream of a host. At most LINES lines of each batch are kept."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._partial = b""
        self.begin()

    def begin(self) -> None:
        """A new batch starts."""
        self._item = 0
        self._lines = 0
        self._dropped = 0

    def feed(self, data: bytes, on_line: OnLine) -> None:
        """Take in what was read."""
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line, on_line)
        # what is over the bound of a line is lost, not held
        self._partial = rest[:LINE_BYTES]

    def end(self, on_line: OnLine) -> None:
        """The batch is over: the last line counts without its newline."""
        self._take(self._partial, on_line)
        self._partial = b""
        if self._dropped:
            on_line(self._item, "error", f"{self._dropped} more lines were dropped")
            self._dropped = 0

    def _take(self, line: bytes, on_line: OnLine) -> None:
        text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        if text.startswith(MARK) and text[1:].isdigit():
            self._item = int(text[1:9])
        elif text and self._lines < LINES:
            self._lines += 1
            on_line(self._item, self._level, text)
        elif text:
            self._dropped += 1
