"""Probes of a module that is to run eagerly, at deploy: what it returns, and what it may share."""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fusion.bindings import dtype_name
from fusion.check import is_close
from fusion.eager import run, state_of
from fusion.errors import ExportError
from fusion.ir import DTYPE_BYTES, TensorSpec
from fusion.probes import probe_inputs

_PROBED_ROWS = 2


def output_specs(module: nn.Module, example: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    """What forward returns, rows first; raises ExportError for sizes that rows do not decide."""
    found: list[dict[str, Tensor]] = []
    for rows in (1, _PROBED_ROWS):
        for seed in (0, 1):
            outputs = run(module, probe_inputs(example, rows, seed))
            for name, y in outputs.items():
                if not y.dim() or len(y) != rows:
                    raise ExportError(
                        f"output {name!r} has shape {tuple(y.shape)} at {rows} rows",
                        "Dimension 0 of every input and output is the rows",
                    )
            found.append(outputs)
    specs = [_specs_of(outputs) for outputs in found]
    if any(other != specs[0] for other in specs):
        raise ExportError("the shapes of its outputs depend on values", "Pad them to a fixed size")
    if not specs[0]:
        raise ExportError("forward returns no tensor", "Return at least one")
    return specs[0]


def _specs_of(outputs: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    for name, y in outputs.items():
        if dtype_name(y.dtype) not in DTYPE_BYTES:
            raise ExportError(f"output {name!r} has dtype {y.dtype}", f"Use {list(DTYPE_BYTES)}")
    return tuple(
        TensorSpec(name, dtype_name(y.dtype), (None, *y.shape[1:])) for name, y in outputs.items()
    )


def is_repeatable(
    module: nn.Module, example: Mapping[str, Tensor], rows_list: Sequence[int]
) -> bool:
    """Whether the same input gives the same twice in a row, and leaves the weights as they are."""
    before = {name: tensor.clone() for name, tensor in state_of(module).items()}
    for inputs in probes(example, rows_list):
        if not are_close(run(module, inputs), run(module, inputs)):
            return False
    after = state_of(module)
    return all(torch.equal(before[name], after[name]) for name in before)


def is_batchable(module: nn.Module, example: Mapping[str, Tensor]) -> bool:
    """f(cat(a, b)) == cat(f(a), f(b)), for inputs unlike enough to take different branches."""
    variants = [*_unlike(example)]
    try:
        apart = [run(module, inputs) for inputs in variants]
        for first, second in permutations(range(len(variants)), 2):
            a, b = variants[first], variants[second]
            joined = run(module, {name: torch.cat([a[name], b[name]]) for name in a})
            expected = {y: torch.cat([apart[first][y], apart[second][y]]) for y in joined}
            if not are_close(joined, expected):
                return False
    except Exception:  # noqa: BLE001 -- the user's code: what fails on a variant is not licensed
        return False
    return True


def _unlike(example: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Inputs of two rows, each kind unlike the one before."""
    for kind in range(4):
        named = probe_inputs(example, _PROBED_ROWS, kind)
        yield {name: _changed(x, kind) for name, x in named.items()}


def _changed(x: Tensor, kind: int) -> Tensor:
    """Numbers with the other sign, ten times as large, zero; of ids the least and the greatest."""
    if x.dtype.is_floating_point:
        return x * (1.0, -1.0, 10.0, 0.0)[kind]
    if kind in (1, 2) and x.numel():
        return x.amin().expand_as(x).clone() if kind == 1 else x.amax().expand_as(x).clone()
    return x


def probes(example: Mapping[str, Tensor], rows_list: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Two different inputs for each number of rows."""
    for rows in rows_list:
        for seed in (0, 1):
            yield probe_inputs(example, rows, seed)


def are_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether two runs gave the same outputs."""
    if found.keys() != expected.keys():
        return False
    return all(is_close(found[name], expected[name]) for name in found)


def measure_activation_bytes(module: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Largest sum of live inputs, activations and outputs, in bytes, each storage once.

    Scratch that an operator frees before it returns is not seen.
    """
    live = _Liveness(module, inputs)
    with torch.inference_mode(), live:
        module(**inputs)
    return live.peak_bytes


class _Liveness(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the tensors that hold each storage while operators run."""

    # torch.cond and the like: what is inside of them is not seen
    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        own = [*module.parameters(), *module.buffers()]
        self._free = {tensor.untyped_storage().data_ptr() for tensor in own}  # no activations
        self._holders: Counter[int] = Counter()
        self._live_bytes = 0
        self.peak_bytes = 0
        for x in inputs.values():
            self._hold(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        pytree.tree_map_only(Tensor, self._hold, result)
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self._free or not size:
            return
        if not self._holders[key]:
            self._live_bytes += size
        self._holders[key] += 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._live_bytes -= size
