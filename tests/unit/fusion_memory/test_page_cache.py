"""How much of a file is in memory, and that processes share it."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from fusion.device import Device
from fusion.page_cache import cached_share
from fusion.slots import SlotRequest, open_slots
from fusion.weights import write_weights

MIB = 2**20


def dropped(path: Path) -> None:
    """Have the kernel forget the file's pages."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_pages_that_were_read_are_counted(tmp_path: Path) -> None:
    """None, about half, all."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 16 * MIB)
    dropped(path)
    if cached_share(path):
        pytest.skip("this file system keeps pages that it is told to drop")
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(file.fileno(), 8 * MIB, 0)
    assert cached_share(path) == 0.5
    path.read_bytes()
    assert cached_share(path) == 1


def test_a_file_that_is_gone_or_empty_has_none(tmp_path: Path) -> None:
    """It may be removed while somebody looks."""
    (tmp_path / "empty").touch()
    assert cached_share(tmp_path / "empty") == cached_share(tmp_path / "gone") == 0


def pss_and_rss(path: Path) -> tuple[int, int]:
    """Of the maps of this file in this process, as the kernel splits them among processes."""
    sums = {"Pss": 0, "Rss": 0}
    is_its = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in line.split()[0]:
            is_its = line.endswith(str(path))
        elif is_its and name in sums:
            sums[name] += int(value.split()[0]) * 1024
    return sums["Pss"], sums["Rss"]


def hold(request: SlotRequest, turns: Connection) -> None:
    """Have the function resident until the other has looked too."""
    table = open_slots(Device("cpu"), 100 * MIB)
    with table.acquire([request]):
        turns.send("resident")
        turns.recv()
        turns.send(pss_and_rss(request.path))


def test_workers_of_one_machine_share_what_they_map(tmp_path: Path) -> None:
    """Two processes with one function: each is charged half of its pages."""
    path = tmp_path / "weights.safetensors"
    index = write_weights(path, {"kernel": torch.full((4, 1024, 1024), 1.5)})
    request = SlotRequest("a@1", path, index, is_verified=True)
    # a fork has torch already, which takes others seconds to import
    context = multiprocessing.get_context("fork")
    turns, its_turns = context.Pipe()
    other = context.Process(target=hold, args=(request, its_turns))
    other.start()
    table = open_slots(Device("cpu"), 100 * MIB)
    with table.acquire([request]):
        assert turns.recv() == "resident"
        found = [pss_and_rss(path)]
        turns.send("go on")
        found.append(turns.recv())
    other.join(60)
    assert other.exitcode == 0
    for pss_bytes, rss_bytes in found:
        assert rss_bytes >= index.data_bytes
        assert pss_bytes == pytest.approx(rss_bytes / 2, rel=0.02)
