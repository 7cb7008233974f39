"""Eager functions as slots: what they count, and what their hosts may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contract.errors import HandlerFailed
from contract.function import WEIGHTS, Function
from contract.tensors import encode_tensor
from fusion.device import Device
from fusion.leases import SlotRequest
from fusion.loaders import MappedLoader
from fusion.slots import SlotTable
from fusion.weights import read_index, write_weights
from tests.unit.workers.conftest import LIMITS, Bench, a_function, call
from workers.eager_slots import EagerLoader, Opening, visible_device
from workers.handlers.hosts import Hosts

SCALES = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(4))
    def forward(self, x):
        return {"y": x * self.scale}

load = Net
"""
X = {"x": encode_tensor(np.ones((1, 4), np.float32))}


def deployed(bench: Bench, code: str = SCALES) -> Function:
    """A function of one weight."""
    function = bench.deploy(code)
    folder = bench.folder / function.digest
    write_weights(folder / WEIGHTS, {"scale": torch.arange(4.0)})
    return function


def hosts_on(bench: Bench, device: Device) -> Hosts:
    """Hosts of eager functions."""
    limits = bench.limits._replace(call_s=60.0, memory_bytes=2**32)
    opening = Opening(bench.folder, limits, device, 1, 2**30)
    return Hosts(bench.folder, limits, 0.0, lambda *line: bench.lines.append(line), opening.open)


def request(bench: Bench, function: Function, loader: EagerLoader) -> SlotRequest:
    """Its weights, to be resident by its own loader."""
    path = bench.folder / function.digest / WEIGHTS
    return SlotRequest(str(function.ref), path, read_index(path), loader=loader)


def test_a_slot_holds_a_host_and_its_eviction_ends_it(bench: Bench) -> None:
    """Pages of the file are counted; the weights are the file's."""
    device = Device("cpu")
    hosts, table = hosts_on(bench, device), SlotTable(MappedLoader(), 2**20)
    function = deployed(bench)
    wanted = request(bench, function, EagerLoader(function, hosts, device, table))
    with table.acquire([wanted]) as lease:
        assert lease.cold == {str(function.ref)}
        assert set(hosts.pids()) == {function.ref}
        (outputs,) = hosts.forward(function, [call(0, X)])
        assert outputs["y"].tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert table.stats().resident_bytes == MappedLoader().slot_bytes(wanted.index)
    assert table.evict(str(function.ref))
    assert (hosts.pids(), table.stats().used_bytes) == ({}, 0)
    table.check_integrity()


def test_a_host_that_cannot_start_leaves_nothing(bench: Bench) -> None:
    """No slot, no process, no charge."""
    device = Device("cpu")
    hosts, table = hosts_on(bench, device), SlotTable(MappedLoader(), 2**20)
    function = deployed(bench, "def load(): raise KeyError('net')")
    wanted = request(bench, function, EagerLoader(function, hosts, device, table))
    with pytest.raises(HandlerFailed, match="KeyError: 'net'"):
        table.acquire([wanted])
    assert (hosts.pids(), table.stats().used_bytes) == ({}, 0)
    table.check_integrity()


def test_a_manifest_gives_its_host_no_more_than_the_operator_allows(tmp_path: Path) -> None:
    """However much it says that activations and outputs take."""
    write_weights(tmp_path / WEIGHTS, {"w": torch.zeros(4)})
    index = read_index(tmp_path / WEIGHTS)
    limits = LIMITS._replace(reply_bytes=100, payload_bytes=2000)
    huge = a_function("f", activation_bytes={1: 2**50}, max_batch=65536).manifest
    found = Opening(tmp_path, limits, Device("cpu"), 1, budget_bytes=1000).limits_of(huge, index)
    assert found.memory_bytes == limits.memory_bytes + 2 * index.file_bytes + 1000
    assert found.reply_bytes == 2000


@pytest.mark.parametrize(
    ("device", "setting", "shown"),
    [
        (Device("cpu"), "0,1", ""),
        (Device("cuda", 1), None, "1"),
        (Device("cuda", 1), "3,GPU-5", "GPU-5"),
    ],
)
def test_a_host_sees_the_device_of_its_worker_alone(
    monkeypatch: pytest.MonkeyPatch, device: Device, setting: str | None, shown: str
) -> None:
    """As the worker's own environment counts them."""
    if setting is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert visible_device(device) == shown


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_host_on_a_gpu_computes_there_and_its_context_is_charged(bench: Bench) -> None:
    """What its process takes beside the weights is given back with it."""
    device = Device("cuda", 0)
    hosts, table = hosts_on(bench, device), SlotTable(MappedLoader(), 2**33)
    code = SCALES.replace("* self.scale}", '* self.scale * (x.device.type == "cuda")}')
    function = deployed(bench, code)
    wanted = request(bench, function, EagerLoader(function, hosts, device, table))
    with table.acquire([wanted]):
        (outputs,) = hosts.forward(function, [call(0, X)])
        assert outputs["y"].tolist() == [[0.0, 1.0, 2.0, 3.0]]
        assert table.stats().charged_bytes > 0
    assert table.evict(str(function.ref))
    assert table.stats().used_bytes == 0
