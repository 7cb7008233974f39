"""Functions are loaded, run and evicted, thousands of times over; memory must stay flat.

First the slot table alone: real files, generated code, two threads that hold groups. Then a whole
platform with four clients. In both there is room for some of the functions only, so that nearly
every call is a cycle of load and eviction. Slopes are least squares over the cycles after the first
fifth, in which caches fill, each with the interval in which it lies 95 times in 100.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _family import TOLERANCE, Member, members
from _intervals import slope_interval
from _platform import ROOT, Platform, running_platform
from _report import Row, finish
from torch import nn

from contract.errors import FuseboxError
from deploy.client import Client
from fusion.codegen import Program
from fusion.device import Device
from fusion.export import export
from fusion.slots import SlotRequest, SlotTable, open_slots
from fusion.specialise import specialised
from fusion.weights import write_weights
from workers.memory import give_back

WARM_UP = 0.2
KIB = 1024
# of the process and of its addresses, per cycle: a leaked record is more than this
BAR_KIB = 1.0
FILES, THREADS, ROUND, SCRATCH_BYTES = 6, 2, 20, 100_000
WIDE = ROOT / "bench" / "functions" / "wide.py"
WIDTH, FUNCTIONS, CLIENTS, CALLS = 1024, 8, 4, 10
# for three of eight functions of 4.2 MB, and what groups need beside
BUDGET_BYTES = 14_000_000


class Taken(NamedTuple):
    """What a worker, or this process, takes at one moment."""

    cycles: int
    # as the slots account for it
    resident_bytes: int
    # addresses that are taken, maps of files included
    reserved_bytes: int
    process_bytes: int


def taken(cycles: int, resident_bytes: int, pid: int | str = "self") -> Taken:
    """By /proc."""
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    size, rss = (int(fields[name].split()[0]) * KIB for name in ("VmSize", "VmRSS"))
    return Taken(cycles, resident_bytes, size, rss)


class Small(nn.Module):
    """Convolutions and a linear layer, 1.2 MB."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv2d(3, 16, 3, padding=1)
            self.linear = nn.Linear(16 * 16 * 16, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, 3, 16, 16] -> [rows, 64]."""
        return torch.as_tensor(self.linear(self.convolution(x).relu().flatten(1)))


class Table:
    """A slot table with room for half of its functions, and what they answer."""

    def __init__(self, folder: Path) -> None:
        self._x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        self._requests: list[SlotRequest] = []
        self._expected: list[torch.Tensor] = []
        for seed in range(FILES):
            module = Small(seed).eval()
            made = export(module, {"x": self._x}, max_rows=2)
            path = folder / f"{seed}.safetensors"
            self._requests.append(SlotRequest(str(seed), path, write_weights(path, made.weights)))
            with torch.inference_mode():
                self._expected.append(module(self._x))
        self._graph = made.graph
        self._program: Program = specialised(made.graph, "cpu")
        room = FILES // 2 * self._requests[0].index.file_bytes
        # two groups of one function at a time always fit beside each other
        self._slots: SlotTable = open_slots(Device("cpu"), room + THREADS * SCRATCH_BYTES + 40_960)
        self._lock = threading.Lock()
        self.difference = 0.0

    @property
    def cycles(self) -> int:
        """Evictions so far."""
        return self._slots.stats().evictions

    def run(self, seed: int) -> None:
        """Some calls of one thread, in an order of its own."""
        chooser = random.Random(seed)
        for _ in range(ROUND):
            number = chooser.randrange(FILES)
            request = self._requests[number]
            with self._slots.acquire([request], SCRATCH_BYTES) as lease:
                names = lease.names(request.key)
                by_name = dict(zip(names, lease.tensors(request.key), strict=True))
                weights = [by_name[spec.name] for spec in self._graph.weights]
                with torch.inference_mode():
                    [output] = self._program.run(weights, [self._x])
                del by_name, weights
            want = self._expected[number]
            found = float((output - want).abs().max() / want.abs().max())
            with self._lock:
                self.difference = max(self.difference, found)

    def taken(self) -> Taken:
        """Between two rounds."""
        self._slots.check_integrity()
        give_back()
        return taken(self.cycles, self._slots.stats().used_bytes)


def of_table(cycles: int) -> list[Row]:
    """The slot table in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
        table, curve, seed = Table(Path(folder)), [], 0
        while table.cycles < cycles:
            list(pool.map(table.run, range(seed, seed + THREADS)))
            seed += THREADS
            curve.append(table.taken())
    difference = Row("slots: largest relative difference", table.difference, "", TOLERANCE, False)
    return [*rows_of("slots", curve), difference]


class Served:
    """A platform with room for some of its functions."""

    def __init__(self, platform: Platform, family: Sequence[Member]) -> None:
        self._platform = platform
        self._family = family
        self._failures: list[str] = []
        self.difference = 0.0
        with Client(platform.url) as client:
            [worker] = client.workers()
        self._pid = worker["pid"]

    @property
    def failures(self) -> list[str]:
        """Calls that were not answered."""
        return self._failures

    def round(self, number: int) -> Taken:
        """Calls of all clients, and what the worker takes after them."""
        with ThreadPoolExecutor(CLIENTS) as pool, ExitStack() as stack:
            clients = [stack.enter_context(Client(self._platform.url)) for _ in range(CLIENTS)]
            seeds = range(number * CLIENTS, (number + 1) * CLIENTS)
            self.difference = max(self.difference, *pool.map(self._call, clients, seeds))
        with Client(self._platform.url) as client:
            [worker] = client.workers()
        assert worker["pid"] == self._pid, f"the worker was replaced:\n{self._platform.tail()}"
        return taken(worker["evictions"], worker["resident_bytes"], self._pid)

    def _call(self, client: Client, seed: int) -> float:
        chooser, found = random.Random(seed), 0.0
        for _ in range(CALLS):
            number = chooser.randrange(len(self._family))
            try:
                answer = client.call(f"wide-{number}", self._family[number].body)
                [output] = answer["outputs"].values()
            except (FuseboxError, KeyError) as error:
                self._failures.append(repr(error))
                continue
            found = max(found, self._family[number].difference(output))
        return found


def wide(seed: int) -> nn.Module:
    """What bench/functions/wide.py loads, with weights of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(WIDTH, WIDTH, bias=False)


def of_platform(cycles: int) -> list[Row]:
    """Through HTTP, queue, worker."""
    example = {"x": torch.zeros(2, WIDTH)}
    settings = {"FUSEBOX_MEMORY_BUDGET": str(BUDGET_BYTES), "FUSEBOX_DEVICE": "cpu"}
    # jobs and their results expire within the run
    settings |= {"FUSEBOX_RESULT_TTL_S": "2"}
    with tempfile.TemporaryDirectory() as folder, running_platform(**settings) as platform:
        family = []
        made = members(WIDE, wide, example, range(FUNCTIONS), Path(folder))
        with Client(platform.url) as client:
            for number, member in enumerate(made):
                client.deploy(f"wide-{number}", member.tar, member.digest)
                family.append(member)
        served, curve = Served(platform, family), []
        while not curve or curve[-1].cycles < cycles:
            curve.append(served.round(len(curve)))
    for failure in served.failures[:5]:
        print(failure, file=sys.stderr)
    failed = float(len(served.failures))
    return [
        *rows_of("platform", curve),
        Row("platform: failed calls", failed, "", 0.0, False),
        Row("platform: largest relative difference", served.difference, "", TOLERANCE, False),
    ]


def rows_of(what: str, curve: Sequence[Taken]) -> Iterator[Row]:
    """Slopes of a curve, in KiB per cycle, and what it came to."""
    settled = curve[int(len(curve) * WARM_UP) :]
    yield Row(f"{what}: cycles", float(curve[-1].cycles), "")
    parts: dict[str, Callable[[Taken], int]] = {
        "resident": lambda one: one.resident_bytes,
        "reserved": lambda one: one.reserved_bytes,
        "process": lambda one: one.process_bytes,
    }
    for name, of in parts.items():
        values = [of(one) / KIB for one in settled]
        slope, interval = slope_interval([one.cycles for one in settled], values)
        yield Row(
            f"{what}: {name} bytes per cycle", slope, "KiB", BAR_KIB, False, interval=interval
        )
        most = max(map(of, curve)) / 1e6
        yield Row(f"{what}: most {name} bytes", most, "MB")


def main(words: Sequence[str] | None = None) -> int:
    """Run both, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cycles", type=int, default=2_000, help="of each")
    parser.add_argument("--quick", action="store_true", help="300 cycles")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    cycles = 300 if options.quick else options.cycles
    rows = [*of_table(cycles), *of_platform(cycles)]
    return finish(rows, f"{cycles} cycles of load and eviction under load", options.json)


if __name__ == "__main__":
    sys.exit(main())
