"""Device memory of models in one fused process and in processes of their own.

A child takes memory in steps and waits after each; the parent reads how much of the device's is
free. What is read that way is everything: context, libraries, the allocator's reserve.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _gpu_models import by_name, flat, packed, views_of
from _report import Row
from torch import Tensor

from fusion.codegen import generate
from fusion.graphs.backend import Backend
from fusion.graphs.cache import GraphCache
from fusion.graphs.graphs import Cache, Graphs
from fusion.graphs.member import Part
from fusion.strategies.work import Work

STEPS = ("context", "weights", "activations and workspace")
LESS_BAR = 0.3
RUNS = 3
ROOM_BYTES = 1 << 50


def memory_rows(name: str, script: Path, is_dry: bool, models: Sequence[str]) -> list[Row]:
    """What children of `script` take, step by step, one with all models and one for each."""
    fused = _taken(script, is_dry, "fused", models)
    apart = [_taken(script, is_dry, "separate", [model]) for model in models]
    separate = [sum(steps) for steps in zip(*apart, strict=True)]
    rows = [
        Row(f"{name}: {way}, {step}", taken / 1e6, "MB")
        for way, steps in (("fused", fused), ("separate", separate))
        for step, taken in zip((*STEPS, "all"), (*steps, sum(steps)), strict=True)
    ]
    less = 1 - sum(fused) / max(1, sum(separate))
    return [*rows, Row(f"{name}: less in one process", less, "", LESS_BAR)]


def serve_child(backend: Backend, is_dry: bool, kind: str, models: Sequence[str]) -> int:
    """Take memory as one of the children does, a step for each line that is read."""
    makes = by_name(models, is_dry)
    prepare = _fused if kind == "fused" else _separate
    with torch.inference_mode():
        load, run = prepare(backend, list(zip(models, makes, strict=True)))
        for step in (lambda: torch.zeros(1, device=backend.device), load, run):
            _wait()
            step()
            if backend.device.type == "cuda":
                torch.cuda.synchronize()
            print("done", flush=True)
        _wait()
    return 0


Steps = tuple[Callable[[], object], Callable[[], object]]


def _fused(backend: Backend, models: list) -> Steps:  # type: ignore[type-arg]
    packs = [packed(name, make) for name, make in models]
    parts: list[Part] = []
    jobs: list[list[Tensor]] = []
    cache: Cache = GraphCache(ROOM_BYTES)
    graphs = Graphs(backend, cache)

    def load() -> None:
        for pack in packs:
            weights = views_of(pack.data.to(backend.device), pack.graph)
            parts.append(Part(generate(pack.graph), weights, 1))
            jobs.append([x.to(backend.device) for x in pack.inputs.values()])

    def run() -> None:
        while graphs.capture_next(parts):
            pass
        works = [Work(p.program, p.weights, job, 1) for p, job in zip(parts, jobs, strict=True)]
        for _ in range(RUNS):
            if graphs.run_group(works) is None:
                for work in works:
                    work.run()

    return load, run


def _separate(backend: Backend, models: list) -> Steps:  # type: ignore[type-arg]
    examples = [make(0) for _, make in models]
    jobs: list[list[Tensor]] = []

    def load() -> None:
        for example in examples:
            example.module.to(backend.device)
            jobs.append([x[:1].to(backend.device) for x in example.inputs.values()])

    def run() -> None:
        for _ in range(RUNS):
            for example, job in zip(examples, jobs, strict=True):
                flat(example.module(*job))

    return load, run


def _taken(script: Path, is_dry: bool, kind: str, models: Sequence[str]) -> list[int]:
    """Bytes of each step; the child ends before this returns."""
    command = [sys.executable, str(script), "--child", kind, "--names", *models]
    command += ["--dry-run"] if is_dry else []
    taken = []
    free_bytes = _free_bytes(is_dry)  # before it starts: it may make its context at any time
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for step in STEPS:
            child.stdin.write("\n")
            child.stdin.flush()
            if child.stdout.readline() != "done\n":
                raise RuntimeError(f"{kind} {', '.join(models)} ended before {step}")
            left_bytes = _free_bytes(is_dry)
            taken.append(free_bytes - left_bytes)
            free_bytes = left_bytes
        child.communicate("\n")
    return taken


def _free_bytes(is_dry: bool) -> int:
    """Of the whole device, whoever takes the rest."""
    return 0 if is_dry else int(torch.cuda.mem_get_info()[0])


def _wait() -> None:
    sys.stdin.readline()
