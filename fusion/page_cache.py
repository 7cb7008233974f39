"""How much of a file is in the page cache."""

import ctypes
import mmap
from pathlib import Path

import numpy as np

# looked at, at equal distances, of a file that has more: one call of the kernel each
SAMPLES = 32
# of a file's pages, for it to be said to be in host memory
HOST_SHARE = 0.9

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def cached_share(path: Path) -> float:
    """Share of the file that the page cache has, estimated from `SAMPLES` pages; 0 without a file.

    Linux tells the truth to whoever may write to the file (mincore, since 5.2), and all to others.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
            present = _present(pages)
            return sum(present) / len(present)
    except (OSError, ValueError):  # removed meanwhile, or empty
        return 0.0


def _present(pages: mmap.mmap) -> list[bool]:
    """Of each page that is looked at."""
    count = -(-len(pages) // mmap.PAGESIZE)
    step = -(-count // SAMPLES)
    # numpy lets go of the map at the end of this call
    begin: int = np.frombuffer(pages, np.uint8).__array_interface__["data"][0]
    found = ctypes.create_string_buffer(1)
    present = []
    for number in range(step // 2, count, step):
        if _libc.mincore(begin + number * mmap.PAGESIZE, 1, found):
            raise OSError(ctypes.get_errno(), "mincore")
        present.append(bool(found.raw[0] & 1))
    return present
