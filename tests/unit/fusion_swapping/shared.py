"""Functions to swap, and tables with an arena on a backend whose copies run late."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from fusion.slots import Lease, SlotRequest, SlotTable
from fusion.swapping.loader import ArenaLoader
from fusion.weights import write_weights
from tests.unit.fusion_swapping.cpu_copies import CpuCopies

MIB = 2**20


def plain(number: int, mib: int = 3) -> dict[str, Tensor]:
    """A function of its own."""
    generator = torch.Generator().manual_seed(number)
    return {
        "kernel": torch.rand(mib, MIB // 4, generator=generator),
        "bias": torch.full((5,), float(number)),
        "empty": torch.zeros(0, 3),
        "count": torch.tensor(number),
    }


def sibling(number: int) -> dict[str, Tensor]:
    """All but the head is as in all others."""
    return {
        "first": torch.full((500, 1000), 0.5),
        "bias": torch.arange(5.0),
        "second": torch.arange(700_000.0).view(700, 1000),
        "third": torch.full((300, 1000), 0.25),
        "head": torch.full((100, 1000), float(number)),
        "scale": torch.full((7,), float(number)),
    }


def stored(folder: Path, key: str, model: dict[str, Tensor], is_verified: bool) -> SlotRequest:
    """As deployed."""
    path = folder / f"{key}.safetensors"
    return SlotRequest(key, path, write_weights(path, model), is_verified=is_verified)


def opened(
    arena_bytes: int, host_bytes: int, beside_bytes: int = 0
) -> tuple[SlotTable, ArenaLoader, CpuCopies]:
    """A table, its loader and its device."""
    copies = CpuCopies()
    loader = ArenaLoader(copies, arena_bytes, host_bytes)
    return SlotTable(loader, loader.arena_bytes + beside_bytes), loader, copies


def check(lease: Lease, key: str, model: dict[str, Tensor]) -> None:
    """Every tensor is right, to the bit."""
    found = dict(zip(lease.names(key), lease.tensors(key), strict=True))
    assert found.keys() == model.keys()
    for name, expected in model.items():
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected), f"{key}: {name}"


@contextmanager
def dropped(path: Path) -> Iterator[None]:
    """The page cache gives the file up."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield
