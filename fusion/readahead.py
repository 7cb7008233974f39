"""Making the pages of a mapped file present, at the speed of the disk where they are not cached.

In huge pages one call does it: faults ask for the next before this one has come. Page by page the
whole next window is asked for before this one is waited for, so that the disk always has requests
queued: faults alone would ask for one read-ahead (128 KiB, as most disks are set up) at a time. Of
pages that are cached, asking looks each up, which is little beside making them present. Threads
that populate parts of a file measured no faster than one, either way.
"""

import mmap

from fusion.huge_pages import ask_for
from fusion.mapping import advise, populate

WINDOW_BYTES = 32 * 2**20


def bring_in(address: int, bytes_: int, is_huge: bool = False) -> None:
    """Make every page of a mapped file present, so that the first run faults none.

    `is_huge`: its file system has huge pages. Reading faults shared pages in; MAP_POPULATE on a
    private writable map copied each of them.
    """
    if is_huge:
        ask_for(address, bytes_)
        populate(address, bytes_)
        return
    _ahead(address, min(bytes_, WINDOW_BYTES))
    for begin in range(0, bytes_, WINDOW_BYTES):
        end = min(begin + WINDOW_BYTES, bytes_)
        _ahead(address + end, min(WINDOW_BYTES, bytes_ - end))
        populate(address + begin, end - begin)


def _ahead(address: int, bytes_: int) -> None:
    if bytes_:
        # where the advice is not taken, populating reads by itself
        advise(address, bytes_, mmap.MADV_WILLNEED)
