"""Maps at given addresses, and advice on them; what Python's mmap module does not do."""

import ctypes
import mmap
import os

import numpy as np

# Linux, uapi/asm-generic/mman-common.h; Python's mmap has no names for them
MAP_FIXED = 0x10
PROT_NONE = 0
MADV_POPULATE_READ = 22  # Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Reserved:
    """Addresses that nothing else gets, on a boundary of `align`; they take no memory."""

    def __init__(self, bytes_: int, align: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._pages = mmap.mmap(-1, bytes_ + align, flags=flags, prot=PROT_NONE)
        # the export keeps nothing: numpy lets go of it here
        begin = int(np.frombuffer(self._pages, np.uint8).__array_interface__["data"][0])
        self.address = -(-begin // align) * align


def map_file(address: int, bytes_: int, file: int, offset: int) -> None:
    """Map a part of a file there, read-only and shared; raises OSError."""
    _map(address, bytes_, mmap.PROT_READ, mmap.MAP_SHARED, file, offset)


def unmap(address: int, bytes_: int) -> None:
    """Leave the addresses reserved, with nothing behind them."""
    _map(address, bytes_, PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)


def advise(address: int, bytes_: int, advice: int) -> bool:
    """Whether the kernel took the advice."""
    return not _libc.madvise(address, bytes_, advice)


def populate(address: int, bytes_: int) -> None:
    """Make every page of a mapped file present; what cannot be read raises SIGBUS as ever."""
    if not advise(address, bytes_, MADV_POPULATE_READ):
        # a kernel before 5.14: touch each
        (ctypes.c_char * bytes_).from_address(address)[:: mmap.PAGESIZE]


def _map(address: int, bytes_: int, protection: int, flags: int, file: int, offset: int) -> None:
    if _libc.mmap(address, bytes_, protection, flags | MAP_FIXED, file, offset) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
