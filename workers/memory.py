"""The allocators of this process: few caches of their own, and giving back what is not needed."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import MutableMapping

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Blocks from here on are mapped one by one and go back to the system when they are freed. glibc
# raises this by itself to 32 MiB as such blocks are freed, unless it was set.
MMAP_FROM_BYTES = 32 * 2**20
# Set the other threshold and glibc trims the heap at every free near its end: pages of activations
# would fault in again in every run.
TRIM_FROM_BYTES = 1 << 30

# oneDNN keeps the code it has generated for each convolution, shape and number of threads, 1,024
# times unless told otherwise: one for so many bytes of the budget, within bounds.
_BUDGET_PER_KERNEL = 800_000
_FEWEST_KERNELS, _MOST_KERNELS = 160, 1024


def set_up_libraries(
    environ: MutableMapping[str, str], memory_budget_bytes: int | None = None
) -> None:
    """Bound what oneDNN and MKL keep for themselves; before torch is imported.

    MKL's own cache is buffers of megabytes per thread that `give_back` cannot reach; malloc is as
    fast once it keeps its pages between two runs.
    """
    kernels = _MOST_KERNELS
    if memory_budget_bytes is not None:
        affordable = memory_budget_bytes // _BUDGET_PER_KERNEL
        kernels = min(max(affordable, _FEWEST_KERNELS), _MOST_KERNELS)
    environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(kernels))
    environ.setdefault("MKL_DISABLE_FAST_MM", "1")


def set_up_malloc() -> None:
    """One arena, so that what one thread frees the next one uses; before torch starts threads."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, TRIM_FROM_BYTES)


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
