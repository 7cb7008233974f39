"""Graphs assembled from captured ones, which torch has no call for: through `cuda-bindings`.

The CUDA wheel of torch brings that package along. A node takes a copy of its graph, so a new group
of known members costs an instantiation and no capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch

from fusion.errors import CaptureError


class ChildGraphs:
    """Several graphs as one, side by side."""

    def __init__(self, runtime: ModuleType, executable: Any, device: torch.device) -> None:
        self.bytes = 0  # what the driver takes for the copies, where it could be measured
        self._runtime = runtime
        self._executable = executable
        self._device = device
        self._used = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's

    def replay(self) -> None:
        """Queue the work on the current stream."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        _checked(self._runtime, self._runtime.cudaGraphLaunch(self._executable, stream))

    def mark_used(self) -> None:
        """Note that the current stream may still be at it, or read what it gave."""
        self._used.record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        """Free it, once the last use is done."""
        self._used.synchronize()
        _checked(self._runtime, self._runtime.cudaGraphExecDestroy(self._executable))


def assemble(handles: Sequence[int], device: torch.device) -> ChildGraphs:
    """The graphs (cudaGraph_t) without any order among them; raises CaptureError."""
    runtime = _bindings()
    graph = _checked(runtime, runtime.cudaGraphCreate(0))
    try:
        for handle in handles:
            child = runtime.cudaGraph_t(handle)
            _checked(runtime, runtime.cudaGraphAddChildGraphNode(graph, None, 0, child))
        executable = _checked(runtime, runtime.cudaGraphInstantiate(graph, 0))
        return ChildGraphs(runtime, executable, device)
    finally:
        _checked(runtime, runtime.cudaGraphDestroy(graph))


def _bindings() -> ModuleType:
    try:
        from cuda.bindings import runtime  # a torch without CUDA has none
    except ImportError as error:
        raise CaptureError(f"graphs are assembled through cuda-bindings: {error}") from error
    found: ModuleType = runtime
    return found


def _checked(runtime: ModuleType, answer: tuple[Any, ...]) -> Any:
    """The result of a call; raises CaptureError with CUDA's own words."""
    code, *results = answer
    if code != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(code)
        raise CaptureError(f"{code.name}: {text.decode() if isinstance(text, bytes) else text}")
    return results[0] if results else None
