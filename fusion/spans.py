"""How a weights file divides into spans: bytes that hold the same tensors and are freed together.

On a CPU a span is a run of pages. A page on which one tensor ends and the next begins is a span of
its own: it stays as long as either does. Bytes of spans are what a process really takes.
"""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from fusion.weights import WeightsIndex


class Layout(NamedTuple):
    """The spans of one file."""

    # where they begin, ascending, and where the last ends; file offsets
    cuts: tuple[int, ...]
    # per tensor of the index: the spans on which it lies; empty where tensors cannot be shared
    tensors: tuple[range, ...]

    @property
    def bytes(self) -> int:
        """Of all spans."""
        return self.cuts[-1]

    def bytes_of(self, spans: Iterable[int]) -> int:
        """Of these spans."""
        return sum(self.cuts[span + 1] - self.cuts[span] for span in spans)

    def needed(self, lent: Container[int]) -> list[int]:
        """Spans that hold a tensor which is not lent, or no tensor; ascending.

        `lent` are the indices of tensors that lie in other memory.
        """
        if not self.tensors:
            return list(range(len(self.cuts) - 1))
        of_lent: set[int] = set()
        of_own: set[int] = set()
        for tensor, spans in enumerate(self.tensors):
            (of_lent if tensor in lent else of_own).update(spans)
        return [span for span in range(len(self.cuts) - 1) if span in of_own or span not in of_lent]

    def runs(self, spans: Iterable[int]) -> Iterator[tuple[int, int]]:
        """File offsets (begin, end) of ascending spans, neighbours joined."""
        begin = end = -1
        for span in spans:
            if self.cuts[span] != end:
                if end > begin:
                    yield begin, end
                begin = self.cuts[span]
            end = self.cuts[span + 1]
        if end > begin:
            yield begin, end


def whole(bytes_: int) -> Layout:
    """One span, of which no tensor is shared."""
    return Layout((0, bytes_), ())


def page_layout(index: WeightsIndex, page_bytes: int) -> Layout:
    """The spans of a file that is mapped."""
    pages = []
    for entry in index.entries:
        begin = index.data_offset + entry.offset
        first = begin // page_bytes
        last = -(-(begin + entry.nbytes) // page_bytes)
        pages.append((first, last) if entry.nbytes else (first, first))
    count = -(-index.file_bytes // page_bytes)
    cuts = sorted(
        {0, count, *(cut for first, last in pages if last > first for cut in (first, last))}
    )
    at = {cut: span for span, cut in enumerate(cuts)}
    return Layout(
        tuple(cut * page_bytes for cut in cuts),
        tuple(range(at[a], at[b]) if b > a else range(0) for a, b in pages),
    )
