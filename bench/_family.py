"""Functions of one architecture with weights of their own, exported once and not once each."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from contract.function import GRAPH, MANIFEST, WEIGHTS
from deploy.artifact import write_tar
from deploy.client import Body
from deploy.options import Options
from deploy.package import package
from fusion.export import from_exported_program
from fusion.weights import write_weights

TOLERANCE = 1e-4
MAX_ROWS = 32


class Member(NamedTuple):
    """One function: its artifact, which the next member overwrites, and how to check it."""

    tar: Path
    digest: str
    weights: Path
    body: Body
    # of eager PyTorch
    expected: np.ndarray

    def difference(self, output: object) -> float:
        """The largest of an answer's, relative to the largest value that was expected."""
        found = np.asarray(output, np.float32)
        return float(np.abs(found - self.expected).max() / np.abs(self.expected).max())


def members(
    handler: Path,
    make: Callable[[int], nn.Module],
    example: Mapping[str, Tensor],
    seeds: Iterable[int],
    folder: Path,
) -> Iterator[Member]:
    """A member per seed, of the model that `make(seed)` builds and `handler` loads with one seed.

    One export stands for all: the weights of the others are put into its program.
    """
    packed = package(handler, Options(name="base"), folder, lambda _step: None)
    rows = Dim("rows", min=1, max=MAX_ROWS)
    with torch.no_grad():
        program = export(make(0).eval(), (*example.values(),), dynamic_shapes=({0: rows},))
    [shape] = [x.shape for x in example.values()]
    for seed in seeds:
        module = make(seed).eval()
        with torch.no_grad():
            for key, value in module.state_dict().items():
                program.state_dict[key].copy_(value)
            exported = from_exported_program(program, example, MAX_ROWS)
            x = torch.randn(1, *shape[1:], generator=torch.Generator().manual_seed(seed))
            answer = module(x)
        assert exported.graph.architecture == packed.manifest.architecture
        (folder / GRAPH).write_bytes(exported.graph.encode())
        write_weights(folder / WEIGHTS, exported.weights)
        files = {file: folder / file for file in (GRAPH, WEIGHTS, MANIFEST)}
        digest = write_tar(folder / "member.tar", files)
        [expected] = answer.values() if isinstance(answer, dict) else [answer]
        yield Member(
            folder / "member.tar", digest, folder / WEIGHTS, _npy(x.numpy()), expected.numpy()
        )


def _npy(x: np.ndarray) -> Body:
    file = io.BytesIO()
    np.save(file, x)
    return Body("application/x-npy", file.getvalue())
