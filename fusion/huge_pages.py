"""Whether a file system keeps its files in huge pages: it is asked by a file of its own, once.

A huge page is read, counted and mapped as one, which costs a small part of bringing a file in page
by page. Which kernels and file systems have
them for files (XFS and tmpfs for long, ext4 since Linux 6.16) is not to be read anywhere, and
neither is whether they are switched off.
"""

import mmap
import os
from functools import cache
from pathlib import Path

from fusion.mapping import Reserved, advise, map_file, populate, unmap

HUGE_BYTES = 2 * 2**20
# on machines whose pages are larger than 4 KiB it is much more
_HUGE_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def has_huge_pages(file: int) -> bool:
    """Whether the file system of an open file has them, for whoever asks by `ask_for`."""
    try:
        folder = Path(os.readlink(f"/proc/self/fd/{file}")).parent
        return _asked(os.fstat(file).st_dev, folder)
    except OSError:
        return False


def ask_for(address: int, bytes_: int) -> None:
    """Have a mapped file read and mapped in huge pages, as far as its addresses allow."""
    advise(address, bytes_, mmap.MADV_HUGEPAGE)


# of a file system the first folder will do: they are one kind
_KNOWN: dict[int, bool] = {}


def _asked(device: int, folder: Path) -> bool:
    found = _KNOWN.get(device)
    if found is None:
        found = _KNOWN[device] = _is_usual_size() and _try_in(folder)
    return found


@cache
def _is_usual_size() -> bool:
    try:
        return int(_HUGE_SIZE.read_text()) == HUGE_BYTES
    except (OSError, ValueError):  # a kernel without them
        return False


def _try_in(folder: Path) -> bool:
    """Write a file that no name leads to, and look at how it is mapped."""
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # read-only, or it has no such files: nothing is known
        return False
    place = Reserved(HUGE_BYTES, HUGE_BYTES)
    try:
        if os.write(file, bytes(HUGE_BYTES)) != HUGE_BYTES:
            return False
        map_file(place.address, HUGE_BYTES, file, 0)
        ask_for(place.address, HUGE_BYTES)
        populate(place.address, HUGE_BYTES)
        return huge_bytes_at(place.address) == HUGE_BYTES
    except OSError:  # the disk is full
        return False
    finally:
        unmap(place.address, HUGE_BYTES)
        os.close(file)


def huge_bytes_at(address: int) -> int:
    """How much of the map that begins there is mapped in huge pages."""
    begin = f"{address:x}-"
    is_it = False
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if line.startswith(begin):
                is_it = True
            elif is_it and line.startswith("FilePmdMapped:"):
                return int(line.split()[1]) * 1024
    return 0
