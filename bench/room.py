"""Throughput against room: 24 ResNet-18-shaped functions (45 MB each), called by eight clients.

One platform per room, all over the same artifacts and alive at the same time; rounds call one after
another, in an order that changes, with the same calls in every round. Functions are called in
proportion to rank ** -1.1. The page cache is warm. Every answer is compared with eager PyTorch.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

from _family import TOLERANCE, Member, members
from _intervals import ratio_interval
from _platform import ROOT, Platform, start
from _plot import line_plot
from _report import Row, finish

from contract.errors import FuseboxError
from deploy.client import Client
from fusion.page_cache import cached_share
from fusion.weights import read_index

FAMILY = ROOT / "examples" / "resnet-family"
FUNCTIONS, SKEW, CLIENTS = 24, 1.1, 8
ROOMS = (24, 16, 12, 8, 6, 4)
# room for 8 of 24: the bar on throughput
BAR_ROOM, BAR = 8, 0.80
# beside the functions, for activations and fused DAGs: less than one function takes
BESIDE_BYTES = 40_000_000
PLOT = ROOT / "docs" / "images" / "room.svg"


class Length(NamedTuple):
    """How much is run."""

    functions: int
    rooms: tuple[int, ...]
    rounds: int
    # calls of every client in a round
    calls: int


FULL, QUICK = Length(FUNCTIONS, ROOMS, 12, 20), Length(8, (8, 3), 3, 12)


@dataclass
class Seen:
    """What the clients saw of one room."""

    # per answer, of every round
    seconds: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    cold: list[bool] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    loads: int = 0
    thrash: int = 0
    most_resident_bytes: int = 0


def name_of(number: int) -> str:
    """Of a function."""
    return f"member-{number}"


def deploy_all(data: Path, count: int) -> tuple[list[Member], int]:
    """Artifacts and store of all functions in a folder; the bytes of one function's file."""
    sys.path.insert(0, str(FAMILY))
    import family

    found: list[Member] = []
    with tempfile.TemporaryDirectory() as folder, running(data, "1GB") as platform:
        wait(platform)
        with Client(platform.url) as client:
            made = members(
                FAMILY / "resnet-1.py", family.build, family.example_inputs(), range(count),
                Path(folder),
            )  # fmt: skip
            for number, member in enumerate(made):
                client.deploy(name_of(number), member.tar, member.digest)
                found.append(member)
        file_bytes = read_index(found[-1].weights).file_bytes
    return found, file_bytes


@contextmanager
def running(data: Path, budget: str) -> Iterator[Platform]:
    """A platform over this folder, started and not waited for; stopped at the end."""
    platform = start(data, "--no-examples", "--budget", budget, FUSEBOX_GATEWAYS="1")
    try:
        yield platform
    finally:
        try:
            platform.stop()
        finally:
            platform.process.kill()


def wait(platform: Platform) -> None:
    """Until its worker reports."""
    platform.wait_ready("/healthz")
    platform.wait_workers()


def copy_of(data: Path, to: Path) -> Path:
    """The same store and artifacts; the artifacts are the same files, and their pages too."""
    shutil.copytree(data / "artifacts", to / "artifacts", copy_function=_link)
    for entry in data.iterdir():
        if entry.is_dir() and entry.name != "artifacts":
            shutil.copytree(entry, to / entry.name)
        elif entry.is_file() and entry.suffix != ".log":
            shutil.copy2(entry, to / entry.name)
    return to


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def draws(length: Length, seed: int) -> list[list[int]]:
    """Which functions each client calls in a round."""
    chooser = random.Random(seed)
    weights = [(rank + 1) ** -SKEW for rank in range(length.functions)]
    return [
        chooser.choices(range(length.functions), weights, k=length.calls) for _ in range(CLIENTS)
    ]


def one_round(
    platform: Platform, family: Sequence[Member], calls: Sequence[Sequence[int]], seen: Seen
) -> None:
    """All clients at once; the time until the last answer counts."""
    with ThreadPoolExecutor(CLIENTS) as pool, ExitStack() as stack:
        clients = [stack.enter_context(Client(platform.url)) for _ in calls]
        began_s = time.perf_counter()
        list(pool.map(lambda one: _call_all(*one, family, seen), zip(clients, calls, strict=True)))
        passed_s = time.perf_counter() - began_s
    seen.seconds.append(passed_s / len([*chain(*calls)]))
    with Client(platform.url) as client:
        [worker] = client.workers()
    seen.loads, seen.thrash = worker["loads"], worker["thrash"]
    seen.most_resident_bytes = max(seen.most_resident_bytes, worker["resident_bytes"])


def _call_all(client: Client, numbers: Sequence[int], family: Sequence[Member], seen: Seen) -> None:
    """One client's calls, each after the answer to the one before."""
    for number in numbers:
        try:
            answer = client.call(name_of(number), family[number].body)
            [output] = answer["outputs"].values()
        except (FuseboxError, KeyError) as error:
            seen.failures.append(f"{name_of(number)}: {error!r}")
            continue
        seen.differences.append(family[number].difference(output))
        seen.cold.append(answer["timings_ms"]["swap"] > 0)


def measure(length: Length) -> tuple[list[Row], dict[int, Seen]]:
    """Every room, round by round."""
    with tempfile.TemporaryDirectory(prefix="fb-") as root, ExitStack() as stack:
        family, file_bytes = deploy_all(Path(root, "base"), length.functions)
        platforms: dict[int, Platform] = {}
        for room in length.rooms:
            data = copy_of(Path(root, "base"), Path(root, str(room)))
            budget_bytes = room * file_bytes + BESIDE_BYTES
            platforms[room] = stack.enter_context(running(data, str(budget_bytes)))
        for platform in platforms.values():
            wait(platform)
        for platform in platforms.values():
            one_round(platform, family, draws(length, 0), Seen())  # fills slots, tries tiers
        seen = {room: Seen() for room in length.rooms}
        order, chooser = list(length.rooms), random.Random(0)
        for number in range(1, length.rounds + 1):
            chooser.shuffle(order)
            for room in order:
                one_round(platforms[room], family, draws(length, number), seen[room])
        files = [*Path(root, "base", "artifacts").glob("*/weights.safetensors")]
        cached = sum(map(cached_share, files)) / len(files)
    return [*rows_of(seen, file_bytes), Row("page cache: share of weights", cached, "")], seen


def rows_of(seen: Mapping[int, Seen], file_bytes: int) -> Iterator[Row]:
    """The figures and their bars."""
    most = max(seen)
    failures = [failure for one in seen.values() for failure in one.failures]
    for failure in failures[:5]:
        print(failure, file=sys.stderr)
    answers = [d for one in seen.values() for d in one.differences]
    yield Row("answers", float(len(answers)), "")
    yield Row("failed calls", float(len(failures)), "", 0.0, False)
    yield Row("largest relative difference to eager", max(answers), "", TOLERANCE, False)
    for room, one in seen.items():
        what = f"room for {room}"
        if room != most:
            ratio = ratio_interval(seen[most].seconds, one.seconds)
            value = median(seen[most].seconds) / median(one.seconds)
            bar = BAR if room == BAR_ROOM and most == FUNCTIONS else None
            yield Row(f"{what}: throughput over room for {most}", value, "x", bar, interval=ratio)
        yield Row(f"{what}: throughput", 1 / median(one.seconds), "1/s")
        cold = sum(one.cold) / len(one.cold)
        yield Row(f"{what}: share of calls that waited for weights", cold, "")
        yield Row(f"{what}: loads", float(one.loads), "")
        yield Row(f"{what}: thrash", float(one.thrash), "")
        budget_mb = (room * file_bytes + BESIDE_BYTES) / 1e6
        resident_mb = one.most_resident_bytes / 1e6
        yield Row(f"{what}: most bytes resident", resident_mb, "MB", budget_mb, False)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, plot where asked, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="8 functions, room for 8 and 3")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    parser.add_argument("--plot", metavar="FILE", help=f"such as {PLOT.relative_to(ROOT)}")
    options = parser.parse_args(words)
    length = QUICK if options.quick else FULL
    rows, seen = measure(length)
    if options.plot:
        points = {
            "measured": [(float(room), 1 / median(one.seconds)) for room, one in seen.items()]
        }
        title = f"{length.functions} functions, Zipf {SKEW}, {CLIENTS} clients"
        line_plot(options.plot, title, "room for so many functions", "answers per second", points)
    return finish(rows, f"Throughput of {length.functions} functions against room", options.json)


if __name__ == "__main__":
    sys.exit(main())
