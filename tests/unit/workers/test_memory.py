"""What libraries may keep for themselves."""

import subprocess
import sys

import pytest

from workers.memory import set_up_libraries


@pytest.mark.parametrize(
    ("budget_bytes", "kernels"),
    [(None, 1024), (150_000_000, 187), (1_000_000, 160), (10**12, 1024)],
)
def test_a_small_budget_keeps_fewer_kernels(budget_bytes: int | None, kernels: int) -> None:
    """In proportion, within bounds."""
    environ: dict[str, str] = {}
    set_up_libraries(environ, budget_bytes)
    assert int(environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) == kernels


def test_what_an_operator_has_set_stays() -> None:
    """The environment is the operator's."""
    environ = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7", "MKL_DISABLE_FAST_MM": "0"}
    set_up_libraries(environ, 10**9)
    assert environ == {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7", "MKL_DISABLE_FAST_MM": "0"}


SCRIPT = """
import ctypes
from workers.memory import give_back, set_up_malloc
from fusion.memory import process_resident_bytes
set_up_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
before = process_resident_bytes()
block = libc.malloc(16 * 2**20)
ctypes.memset(ctypes.c_void_p(block), 1, 16 * 2**20)
libc.free(block)
freed = process_resident_bytes() - before
give_back()
print(freed, process_resident_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_freed_pages_stay_until_they_are_given_back() -> None:
    """The next run finds them; an idle worker does not hold them."""
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    freed, given_back = (int(word) for word in made.stdout.split())
    assert freed > 15 * 2**20
    assert given_back < 2**20
