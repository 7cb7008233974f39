"""CUDA graphs through torch: captured by hand, each with memory of its own.

`torch.cuda.graph` would synchronise and empty every cache before a capture, pinned host memory
included, which a worker cannot have between two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from torch import Tensor

from fusion.graphs.backend import Body, Captured, Recording
from fusion.graphs.children import assemble
from fusion.swapping.cuda import DEVICE_TURN

# Before a capture: kernels are loaded, handles made and convolution plans chosen, none of which
# can be captured.
WARM_RUNS = 3
# torch hands 32 streams of a priority out in turn. These are of another priority than the loader's,
# whose copies would otherwise end up in a graph.
STREAMS = 32
PRIORITY = -1


class CudaGraph:
    """One captured graph, kept as it was captured so that it can become part of another."""

    def __init__(self, graph: torch.cuda.CUDAGraph, bytes_: int, device: torch.device) -> None:
        self.bytes = bytes_
        self._graph = graph
        self._device = device
        self._used = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's

    @property
    def handle(self) -> int:
        """The cudaGraph_t."""
        return self._graph.raw_cuda_graph()

    def replay(self) -> None:
        """Queue the work on the current stream."""
        self._graph.replay()

    def mark_used(self) -> None:
        """Note that the current stream may still be at it, or read what it gave."""
        self._used.record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """Free it and its memory, once the last use is done."""
        self._used.synchronize()
        with DEVICE_TURN:
            self._graph.reset()


class CudaBackend:
    """Serves one GPU. Touches CUDA at the first call, not when it is made."""

    def __init__(self, ordinal: int) -> None:
        self._device = torch.device("cuda", ordinal)
        self._streams: list[torch.cuda.Stream] = []
        # torch's allocators may keep asking a graph whose capture has failed
        self._failed: list[torch.cuda.CUDAGraph] = []

    @property
    def device(self) -> torch.device:
        """Where buffers are."""
        return self._device

    def capture(self, bodies: Sequence[Body]) -> Recording:
        """Record the bodies on forked streams; raises what the first to fail raises.

        More bodies than streams share them, one after another.
        """
        with torch.cuda.device(self._device), torch.inference_mode():
            root, *sides = self._all_streams()
            self._warm_up(bodies, root)
            with DEVICE_TURN, torch.cuda.stream(root):
                # A workspace that a capture makes lies in its graph's memory and goes with it. One
                # from before would be baked into all graphs of a stream, and freed by torch with
                # the first of them (pytorch #193402).
                torch._C._cuda_clearCublasWorkspaces()
                try:
                    return self._record(bodies, root, sides)
                finally:
                    torch._C._cuda_clearCublasWorkspaces()

    def assemble(self, parts: Sequence[Captured]) -> Captured:
        """Graphs of this backend as children of one; raises CaptureError."""
        handles = [part.handle for part in parts if isinstance(part, CudaGraph)]
        assert len(handles) == len(parts), "parts were captured elsewhere"
        # in turn, so that what is measured is the graph's
        with torch.cuda.device(self._device), DEVICE_TURN:
            free_bytes = _free_bytes()
            graph = assemble(handles, self._device)
            graph.bytes = max(0, free_bytes - _free_bytes())
            return graph

    def seconds(self, run: Callable[[], object]) -> float:
        """How long it takes until the device is done."""
        torch.cuda.synchronize(self._device)
        started_s = perf_counter()
        run()
        torch.cuda.synchronize(self._device)
        return perf_counter() - started_s

    def _warm_up(self, bodies: Sequence[Body], root: torch.cuda.Stream) -> None:
        """In the thread that captures: torch keeps handles and plans by thread."""
        root.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(root):
            # members of a group were warmed up when they were captured by themselves
            for body in bodies:
                for _ in range(WARM_RUNS if len(bodies) == 1 else 1):
                    body()
        # what warmed up is free before the capture takes memory, and nothing is left to wait for
        torch.cuda.synchronize(self._device)

    def _record(
        self, bodies: Sequence[Body], root: torch.cuda.Stream, sides: Sequence[torch.cuda.Stream]
    ) -> Recording:
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        pool = torch.cuda.graph_pool_handle()
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            outputs = _run(bodies, root, sides)
        except BaseException:
            self._give_up(graph, pool)
            raise
        try:
            graph.capture_end()
        except RuntimeError:
            self._forget(graph, pool)
            raise
        free_bytes = _free_bytes()
        graph.instantiate()
        bytes_ = _pool_bytes(graph) + max(0, free_bytes - _free_bytes())
        return Recording(CudaGraph(graph, bytes_, self._device), outputs)

    def _give_up(self, graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
        """End a capture in which something has failed; the stream would go on capturing."""
        try:
            graph.capture_end()
        except RuntimeError:  # it says again what the caller is about to raise
            self._forget(graph, pool)
        else:
            graph.reset()

    def _forget(self, graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
        """Do what `capture_end` leaves undone where it raises: memory would go on into the pool."""
        self._failed.append(graph)
        torch._C._cuda_endAllocateToPool(self._device.index, pool)
        torch._C._cuda_releasePool(self._device.index, pool)

    def _all_streams(self) -> list[torch.cuda.Stream]:
        """The same ones for the backend's life, and no two of them the same stream."""
        if not self._streams:
            made = [_stream(self._device) for _ in range(STREAMS)]
            self._streams = [*{stream.cuda_stream: stream for stream in made}.values()]
        return self._streams


def _run(
    bodies: Sequence[Body], root: torch.cuda.Stream, sides: Sequence[torch.cuda.Stream]
) -> list[list[Tensor]]:
    """Fork from the root, run, join. One body stays on the root."""
    if len(bodies) == 1:
        return [bodies[0]()]
    used = sides[: len(bodies)]
    forked = root.record_event()
    for side in used:
        side.wait_event(forked)
    outputs = []
    for k, body in enumerate(bodies):
        with torch.cuda.stream(used[k % len(used)]):
            outputs.append(body())
    for side in used:
        root.wait_event(side.record_event())
    return outputs


def _pool_bytes(graph: torch.cuda.CUDAGraph) -> int:
    """What torch has taken from the device for the graph's activations, outputs and workspaces."""
    segments = torch.cuda.memory_snapshot(graph.pool())  # type: ignore[no-untyped-call]  # torch's
    return sum(segment["total_size"] for segment in segments)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, PRIORITY)  # type: ignore[no-untyped-call]  # torch's


def _free_bytes() -> int:
    return torch.cuda.mem_get_info()[0]
