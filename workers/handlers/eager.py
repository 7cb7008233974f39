"""Inside a handler host: a function that runs eagerly, its module over mapped weights."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from contract.tensors import decode_tensor, encode_tensor
from fusion.eager import rebuilt, run
from fusion.signature import parameter_names
from workers.handlers.host import WeightsFile


class Eager:
    """One module; weights are the file's own pages on a CPU, and copies on a GPU."""

    def __init__(
        self,
        handler: ModuleType,
        inputs: list[str],
        weights: Mapping[str, torch.Tensor],
        file: WeightsFile,
    ) -> None:
        torch.set_num_threads(file.threads)
        torch.set_grad_enabled(False)
        self._device = torch.device(file.device)
        self._module = rebuilt(handler, {name: x.to(self._device) for name, x in weights.items()})
        self._parameters = parameter_names(self._module, inputs)

    def forward(self, item: Any) -> Any:
        """Outputs of joined jobs: {name: tensor record} -> {name: tensor record}."""
        # records are read-only, which torch does not take
        arrays = {name: decode_tensor(name, record).copy() for name, record in item.items()}
        inputs = {
            parameter: torch.from_numpy(arrays[name]).to(self._device)
            for parameter, name in self._parameters.items()
        }
        outputs = run(self._module, inputs)
        return {name: encode_tensor(y.cpu().numpy()) for name, y in outputs.items()}


def map_weights(file: WeightsFile) -> dict[str, torch.Tensor]:
    """The tensors by name, views of one map, for good; the file is closed.

    A write to one ends the process. Python's own map would keep a descriptor, by way of which the
    file could be opened again, for writing.
    """
    address = _map(file.fd, file.file_bytes)
    os.close(file.fd)
    found = {}
    for name, dtype, shape, offset, nbytes in file.entries:
        kind = getattr(torch, dtype)
        place = address + file.data_offset + offset
        # an empty tensor has no bytes that could be looked at
        data = (ctypes.c_char * nbytes).from_address(place) if nbytes else None
        flat = torch.empty(0, dtype=kind) if data is None else torch.frombuffer(data, dtype=kind)
        found[name] = flat.view(shape)
    return found


def _map(fd: int, size: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        *(ctypes.c_int,) * 3,
        ctypes.c_long,
    )
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address)
