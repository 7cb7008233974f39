"""The six functions of `_edge_models` on a platform per policy, of which one runs at a time."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import requests
from _edge_models import MODELS, body, write_handlers
from _live import Caller, Played, one_after_another
from _platform import Platform, start
from room import copy_of
from simulator import Report, Workload

NAMES = tuple(model.name for model in MODELS)
# a function aims at so many times what a call takes that has the platform to itself
SLO_TIMES, TIMEOUT_TIMES = 5.0, 15.0
# one core computes, the other one is for all else
SETTINGS = {"FUSEBOX_COMPUTE_THREADS": "1", "FUSEBOX_GATEWAYS": "1", "FUSEBOX_DEVICE": "cpu"}
# a compiler in the background of one platform would take the cores of the one that is measured
SETTINGS |= {"FUSEBOX_COMPILE_AFTER": "0"}
LONE_CALLS = 15


@cache
def body_of(name: str, rows: int) -> bytes:
    """What clients send."""
    return body(next(model for model in MODELS if model.name == name), rows)


class Aims(NamedTuple):
    """Seconds by function."""

    lone_s: Mapping[str, float]
    slos_s: Mapping[str, float]
    timeouts_s: Mapping[str, float]


@dataclass(frozen=True)
class Served:
    """A platform that answers the six functions."""

    platform: Platform
    caller: Caller
    aims: Aims

    def play(self, workload: Workload) -> Played:
        """Every call of a workload; nothing may fail."""
        played = asyncio.run(self._play(workload))
        for one in played.failures[:5]:
            print(f"{one.call}: {one.status} {one.code}")
        assert not played.failures, f"{len(played.failures)} calls failed\n{self.platform.tail()}"
        return played

    def report(self, workload: Workload) -> Report:
        """The same, as figures."""
        return self.play(workload).report(self.aims.slos_s, self.aims.timeouts_s)

    async def _play(self, workload: Workload) -> Played:
        # connections belong to a loop
        try:
            return await self.caller.play(workload)
        finally:
            self.caller.close()


class Stage:
    """The data of a platform per policy, over the same artifacts, each with a store of its own.

    A platform that nobody calls still takes some of the cores, so no other runs beside one that is
    measured. What a scheduler has learned of costs is in the store when it is started again.
    """

    def __init__(self, base: Path, root: Path, aims: Aims) -> None:
        self._base, self._root = base, root
        self.aims = aims

    @contextmanager
    def served(self, policy: str) -> Iterator[Served]:
        """The platform of a policy while it runs, and ready."""
        data = self._root / policy
        if not data.exists():
            copy_of(self._base, data)
        with _running(data, FUSEBOX_POLICY=policy) as platform:
            platform.wait_ready()
            yield Served(platform, Caller(platform, body_of), self.aims)


@contextmanager
def staged() -> Iterator[Stage]:
    """The six functions, deployed with what they aim at."""
    with tempfile.TemporaryDirectory(prefix="fb-") as root:
        base = Path(root, "base")
        yield Stage(base, Path(root), _prepare(base, Path(root)))


def manifests(platform: Platform) -> dict[str, dict[str, int]]:
    """What a profile needs of the functions."""
    found = {}
    for name in NAMES:
        shown = requests.get(f"{platform.url}/v1/functions/{name}", timeout=30).json()
        activations = shown["activation_bytes"]
        found[name] = {
            "weight_bytes": shown["weight_bytes"],
            "activation_bytes": max(int(value) // int(rows) for rows, value in activations.items()),
            "max_batch": shown["max_batch"],
        }
    return found


def _prepare(data: Path, scratch: Path) -> Aims:
    """Deploy; take the time of a lone call of each; deploy again with what follows from it."""
    handlers = write_handlers(scratch)
    with _running(data) as platform:
        platform.wait_ready("/healthz")
        platform.wait_workers()
        for name, path in handlers.items():
            platform.deploy(str(path), "--name", name)
        platform.wait_ready()
        lone_s = _lone_s(platform)
        slos_s = {name: SLO_TIMES * value for name, value in lone_s.items()}
        timeouts_s = {name: TIMEOUT_TIMES * value for name, value in lone_s.items()}
        for name, path in handlers.items():
            slo_ms, timeout_ms = f"{slos_s[name] * 1e3:.1f}", f"{timeouts_s[name] * 1e3:.0f}"
            platform.deploy(
                str(path), "--name", name, "--slo-ms", slo_ms, "--timeout-ms", timeout_ms
            )
    print(json.dumps({"lone_ms": {name: round(1e3 * s, 1) for name, s in lone_s.items()}}))
    return Aims(lone_s, slos_s, timeouts_s)


def _lone_s(platform: Platform) -> dict[str, float]:
    served = Served(platform, Caller(platform, body_of), Aims({}, {}, {}))
    played = served.play(one_after_another(NAMES, 1, LONE_CALLS, 60.0))
    return {
        name: median(one.latency_s for one in played.told if one.call.function == name)
        for name in NAMES
    }


@contextmanager
def _running(data: Path, **settings: str) -> Iterator[Platform]:
    platform = start(data, "--no-examples", **SETTINGS, **settings)
    try:
        yield platform
    finally:
        try:
            platform.stop()
        finally:
            platform.process.kill()
