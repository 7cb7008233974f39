"""Handler hosts of functions that are written in the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from contract.function import Function, FunctionRef, Manifest
from contract.job import JobId
from contract.tensors import TensorSpec
from workers.handlers.hosts import HookCall, Hosts
from workers.handlers.starting import HostLimits

LIMITS = HostLimits(call_s=5.0, memory_bytes=2**31, payload_bytes=2**20, reply_bytes=2**20)


def a_function(name: str = "f", **changes: object) -> Function:
    """A version of a function of four floats."""
    spec = TensorSpec("x", "float32", (None, 4))
    values: dict[str, object] = {
        "architecture": "a" * 64, "inputs": (spec,), "outputs": (spec._replace(name="y"),),
        "parameters": 0, "weight_bytes": 0, "activation_bytes": {1: 16, 8: 128},
        "operators_exported": 0, "operators": 0, "max_batch": 8, "is_batchable": True,
        "has_preprocess": True, "has_postprocess": True, "slo_ms": None, "timeout_ms": 30_000.0,
        "keep_alive_s": None,
    }  # fmt: skip
    manifest = Manifest(**values | changes)  # type: ignore[arg-type]  # built by name
    return Function(name, 1, f"digest-of-{name}", 0.0, manifest)


@dataclass
class Bench:
    """Hosts over a folder of handlers, and the log lines they wrote."""

    folder: Path
    limits: HostLimits
    lines: list[tuple[FunctionRef, str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hosts = Hosts(self.folder, self.limits, 0.0, lambda *line: self.lines.append(line))

    def deploy(self, code: str, name: str = "f", files: dict[str, str] | None = None) -> Function:
        """A function with this handler.py."""
        function = a_function(name)
        artifact = self.folder / function.digest
        artifact.mkdir()
        (artifact / "handler.py").write_text(code)
        for path, text in (files or {}).items():
            (artifact / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (artifact / "files" / path).write_text(text)
        return function

    def pre(self, function: Function, *payloads: Any) -> list[Any]:
        """`preprocess` of JSON payloads, jobs 0, 1, ..."""
        return self.hosts.preprocess(
            function,
            [call(i, ["application/json", orjson.dumps(p)]) for i, p in enumerate(payloads)],
        )

    def text(self, job: str = "0") -> str:
        """What a job printed and raised."""
        return "\n".join(line[3] for line in self.lines if line[1] == job)


def call(number: int, item: Any, timeout_s: float = 60.0) -> HookCall:
    """A call for job `number`."""
    return HookCall(JobId(str(number)), time.time() + timeout_s, item)


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches with other limits."""
    benches: list[Bench] = []

    def make(**limits: Any) -> Bench:
        benches.append(Bench(tmp_path, LIMITS._replace(**limits)))
        return benches[-1]

    yield make
    for bench in benches:
        bench.hosts.stop()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """Hosts with generous limits."""
    return make_bench()
