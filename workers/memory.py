"""The allocator of this process: giving back to the system what is no longer needed."""

from __future__ import annotations

import ctypes
import gc
import os

# malloc.h of glibc
_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
# Blocks from here on are mapped one by one and go back to the system when they are freed. glibc
# raises this by itself to 32 MiB as such blocks are freed, unless it was set.
MMAP_FROM_BYTES = 32 * 2**20
ARENAS = 2


def set_up_malloc() -> None:
    """Few arenas, so that what one thread frees the next one uses; before torch starts threads."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, ARENAS)
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES)


def give_back() -> None:
    """Return freed memory to the system; about a millisecond, and its pages fault in again."""
    # what waits for the collector is not freed yet; the frozen heap of start-up keeps this quick
    gc.collect()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    # musl and others have no such knobs
    is_glibc = any(name.startswith("glibc") for name in [os.confstr("CS_GNU_LIBC_VERSION") or ""])
    return ctypes.CDLL(None) if is_glibc else None
