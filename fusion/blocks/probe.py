"""How fast a weights file comes from the disk, before any run has read of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from fusion.blocks.reader import THREADS, BlockFile, Memory
from fusion.blocks.records import PAGE_BYTES, Extent

# what is read to learn how fast that is
PROBED_BYTES = 32 * 2**20
PROBED_CHUNK_BYTES = 2**20


def measure_read_bytes_per_s(path: Path, file_bytes: int) -> float:
    """How fast the start of a file comes from where it is now; takes a few megabytes meanwhile."""
    end = min(file_bytes, PROBED_BYTES) // PAGE_BYTES * PAGE_BYTES
    if not end:
        return float(PROBED_BYTES)
    file, memory = BlockFile(path, file_bytes), Memory.of(THREADS * PROBED_CHUNK_BYTES)
    begins = [k * PROBED_CHUNK_BYTES for k in range(THREADS)]

    def read_its_share(begin: int) -> None:
        for at in range(begin, end, memory.bytes):
            part = Extent(at, min(at + PROBED_CHUNK_BYTES, end))
            file.read(part, memory.part(begin, begin + part.end - part.begin))

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            began_s = perf_counter()
            list(pool.map(read_its_share, begins))
            return end / (perf_counter() - began_s)
    finally:
        file.close()
        memory.close()
