"""Captured runs on a GPU; skipped where there is none. Needs torch, numpy, safetensors, pytest."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fusion.codegen import Program, generate
from fusion.dag import Call, build
from fusion.device import Device
from fusion.export import Exported, export
from fusion.graphs.backend import Backend
from fusion.graphs.cache import GraphCache
from fusion.graphs.graphs import Graphs
from fusion.graphs.group import CHILDREN, STREAMS, WAYS, run_all
from fusion.graphs.member import MemberGraph, Part, capture_member
from fusion.members import Member, arrange
from fusion.numerics import all_close
from fusion.probes import probe_inputs
from fusion.slots import SlotRequest, open_slots
from fusion.weights import write_weights
from tests.zoo import MAX_ROWS, ZOO

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

ROOM_BYTES = 1 << 40
ROWS = 4
MIXED = ["mlp", "tiny_cnn", "bert", "vit", "resnet18"]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """As the worker runs, in full float32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    with torch.inference_mode():
        yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def backend() -> Backend:
    from fusion.graphs.cuda import CudaBackend

    return _Patient(CudaBackend(0))


class _Patient:
    """The real backend with a stopwatch that finds every graph worth its while."""

    def __init__(self, backend: Backend) -> None:
        self.capture, self.assemble, self.device = (
            backend.capture,
            backend.assemble,
            backend.device,
        )
        self._count = 0

    def seconds(self, run: object) -> float:
        run()  # type: ignore[operator]
        torch.cuda.synchronize()
        self._count += 1
        # a race tries its ways in turn, the first of them first
        return 1.0 if self._count % 2 else 0.5


@cache
def exported(name: str, seed: int = 0) -> Exported:
    with torch.inference_mode(False):
        made = ZOO[name](seed=seed)
        return export(made.module, made.inputs, MAX_ROWS)


def part(name: str, seed: int = 0, program: Program | None = None) -> Part:
    made = exported(name, seed)
    weights = [w.cuda() for w in made.weights.values()]
    return Part(program or generate(made.graph), weights, ROWS)


def inputs(name: str, rows: int, seed: int = 0) -> list[Tensor]:
    graph = exported(name).graph
    made = probe_inputs(ZOO[name]().inputs, rows, seed)
    return [made[spec.name].cuda() for spec in graph.inputs]


def expected(its: Part, job: list[Tensor]) -> list[Tensor]:
    return its.program.run(its.weights, job)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_captured_run_equals_generated_code(name: str, backend: Backend) -> None:
    """At every number of rows that it takes; the next run does not change what one gave."""
    its = part(name)
    member = capture_member(backend, its)
    kept = []
    for rows in (ROWS, 1, 3, ROWS):
        job = inputs(name, rows, seed=rows)
        if member.takes(job):
            kept.append((member.run(job), expected(its, job)))
    assert len(kept) >= 2
    assert all(all_close(found, right) for found, right in kept)
    assert member.bytes >= sum(output.nbytes for output in member.outputs)
    member.close()


def test_new_weights_at_the_same_addresses_are_replayed(backend: Backend) -> None:
    """Copied in on the same stream, any number of times, without a capture."""
    its = part("tiny_cnn")
    member = capture_member(backend, its)
    for seed in (1, 2, 0):
        for weight, new in zip(
            its.weights, exported("tiny_cnn", seed).weights.values(), strict=True
        ):
            weight.copy_(new)
        job = inputs("tiny_cnn", ROWS, seed)
        assert all_close(member.run(job), expected(its, job))
    member.close()


@pytest.mark.parametrize("way", [STREAMS, CHILDREN])
def test_a_group_gives_what_its_members_give(way: str, backend: Backend) -> None:
    """Other inputs each time, and other work of the device in between."""
    names = [*MIXED, "mlp", "bert"]
    parts = [part(name, seed) for seed, name in enumerate(names)]
    members = [capture_member(backend, its) for its in parts]
    group = WAYS[way](backend, parts, members)
    for seed in range(10):
        jobs = [inputs(name, 1 + seed % ROWS, seed) for name in names]
        found = run_all(members, group, jobs)
        right = [expected(its, job) for its, job in zip(parts, jobs, strict=True)]
        assert all(map(all_close, found, right))
    group.captured.close()
    for member in members:
        member.close()


@pytest.mark.parametrize("way", [STREAMS, CHILDREN])
def test_more_members_than_streams(way: str, backend: Backend) -> None:
    """They share streams, or need none."""
    program = generate(exported("mlp").graph)
    parts = [part("mlp", seed % 3, program) for seed in range(40)]
    members = [capture_member(backend, its) for its in parts]
    group = WAYS[way](backend, parts, members)
    jobs = [inputs("mlp", ROWS, seed) for seed in range(40)]
    right = [expected(its, job) for its, job in zip(parts, jobs, strict=True)]
    assert all(map(all_close, run_all(members, group, jobs), right))
    group.captured.close()
    for member in members:
        member.close()


def test_a_graph_that_leaves_takes_nothing_of_the_others(backend: Backend) -> None:
    """Workspaces of matrix products among it: torch frees those of a stream with its graphs."""
    parts = [part("bert"), part("vit"), part("mlp")]
    members = [capture_member(backend, its) for its in parts]
    before_bytes = torch.cuda.memory_reserved()
    held_bytes = members[0].bytes
    members[0].close()
    torch.cuda.empty_cache()
    assert held_bytes > 0
    assert torch.cuda.memory_reserved() < before_bytes
    spoiled = torch.full((64 << 20,), float("nan"), device="cuda")  # lands where memory was freed
    for its, member, name in zip(parts[1:], members[1:], ("vit", "mlp"), strict=True):
        job = inputs(name, ROWS)
        assert all_close(member.run(job), expected(its, job))
        member.close()
    del spoiled


def test_a_graph_closes_after_its_last_run(backend: Backend) -> None:
    """Nobody waits for the device in between."""
    its = part("resnet18")
    job = inputs("resnet18", ROWS)
    for _ in range(5):
        member = capture_member(backend, its)
        found = member.run(job)
        member.close()
        assert all_close(found, expected(its, job))


def test_what_cannot_be_captured_is_refused_and_leaves_the_device_usable(
    backend: Backend,
) -> None:
    """A synchronisation inside; others are captured after it, and memory is given out as before."""
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    its = part("mlp")

    def waiting(weights: list[Tensor], job: list[Tensor]) -> list[Tensor]:
        return [y * float(y.sum() != y.sum() + 1) for y in its.program.run(weights, job)]

    bad = replace(its.program, run=waiting, graph=replace(its.program.graph, batchable=False))
    assert graphs.capture_next([Part(bad, its.weights, ROWS)])
    assert graphs.refused
    good = part("bert")
    assert graphs.capture_next([good])
    job = inputs("bert", ROWS)
    found = graphs.run(good.program, ROWS, good.weights, job)
    assert found is not None
    assert all_close(found, expected(good, job))
    before_bytes = torch.cuda.memory_allocated()
    x = torch.ones(1 << 20, device="cuda")
    assert x.sum().item() == 1 << 20
    del x
    assert before_bytes == torch.cuda.memory_allocated()
    graphs.cache.shrink(ROOM_BYTES)


def test_a_fused_dag_repeats_its_group(backend: Backend) -> None:
    """A member that is refused runs beside it; eviction gives the memory back."""
    cache = GraphCache(ROOM_BYTES)
    graphs = Graphs(backend, cache)
    parts = [part(name) for name in MIXED]
    graphs.refused[parts[0].program.graph.architecture, ROWS] = "for this test"
    dag = build([Member(p.program, p.rows) for p in parts], graphs=graphs)
    order = arrange([Member(p.program, p.rows) for p in parts])
    calls = [Call(parts[k].weights, [inputs(MIXED[k], ROWS)]) for k in order]
    before = dag.run(calls)
    while graphs.capture_next(parts):
        pass
    after = dag.run(calls)
    assert dag.strategy != "serial"
    assert all(all_close(a[0], b[0]) for a, b in zip(after, before, strict=True))
    held_bytes = cache.stats().bytes
    assert held_bytes == cache.shrink(held_bytes)
    again = dag.run(calls)
    assert dag.strategy == "serial"
    assert all(all_close(a[0], b[0]) for a, b in zip(again, before, strict=True))


def test_weights_are_loaded_while_graphs_are_captured(backend: Backend, tmp_path: Path) -> None:
    """Neither fails, and no copy ends up in a graph."""
    made = exported("resnet18")
    path = tmp_path / "w.safetensors"
    index = write_weights(path, made.weights)
    table = open_slots(Device("cuda"), 1 << 30)
    stop = threading.Event()

    def load() -> int:
        loads = 0
        while not stop.is_set():
            with table.acquire([SlotRequest("f", path, index)]) as lease:
                found = lease.tensors("f")[0].cpu()
                assert torch.equal(found, made.weights[lease.names("f")[0]])
            loads += table.evict("f")
        return loads

    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load)
        try:
            for name in MIXED:
                its = part(name)
                member = capture_member(backend, its)
                job = inputs(name, ROWS)
                assert all_close(member.run(job), expected(its, job))
                member.close()
        finally:
            stop.set()
        assert loading.result() > 0


def test_a_function_that_comes_back_to_its_place_needs_no_capture(
    backend: Backend, tmp_path: Path
) -> None:
    """One that comes elsewhere is not repeated by the old graph."""
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    made = exported("tiny_cnn")
    program = generate(made.graph)
    table = open_slots(Device("cuda"), 1 << 30)
    requests = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}.safetensors"
        index = write_weights(path, exported("tiny_cnn", seed).weights)
        requests.append(SlotRequest(f"f{seed}", path, index))
    job, captured = inputs("tiny_cnn", ROWS), 0
    for request in requests * 3:
        with table.acquire([request]) as lease:
            named = dict(zip(lease.names(request.key), lease.tensors(request.key), strict=True))
            weights = [named[spec.name] for spec in made.graph.weights]
            found = graphs.run(program, ROWS, weights, job)
            if found is not None:
                assert all_close(found, program.run(weights, job))
            captured += graphs.capture_next([Part(program, weights, ROWS)])
            found = graphs.run(program, ROWS, weights, job)
            assert found is not None
            assert all_close(found, program.run(weights, job))
            del named, weights, found
        assert table.evict(request.key)
    assert captured == graphs.cache.stats().captures
    graphs.cache.shrink(ROOM_BYTES)


def test_members_of_a_closed_cache_are_gone(backend: Backend) -> None:
    """What is evicted is not found again."""
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    its = part("mlp")
    graphs.capture_next([its])
    with graphs.cache.using(its.key) as member:
        assert isinstance(member, MemberGraph)
    graphs.cache.shrink(ROOM_BYTES)
    assert graphs.run(its.program, ROWS, its.weights, inputs("mlp", ROWS)) is None
