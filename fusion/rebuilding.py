"""A module from its source alone: `python -m fusion.rebuilding FOLDER WEIGHTS IN OUT`.

At deploy, in a process of its own: whatever the source needs and does not bring along is missing
here as it would be on the platform. IN and OUT are weights files of inputs and outputs, named
`RUN.NAME`.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from fusion.eager import rebuilt, run
from fusion.loaders import map_tensors
from fusion.weights import read_index, write_weights

HANDLER = "handler"


def load_handler(folder: Path) -> ModuleType:
    """Import `handler.py` of a folder; its neighbours can be imported."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(HANDLER, folder / f"{HANDLER}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[HANDLER] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, mapped."""
    index = read_index(path)
    names = [entry.name for entry in index.entries]
    return dict(zip(names, map_tensors(path, index).tensors, strict=True))


def main(folder: str, weights: str, inputs: str, outputs: str) -> None:
    """Run every input twice, in order, and write what came of it."""
    torch.set_grad_enabled(False)
    module = rebuilt(load_handler(Path(folder)), read_tensors(Path(weights)))
    runs: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(Path(inputs)).items():
        number, _, parameter = name.partition(".")
        runs.setdefault(int(number), {})[parameter] = tensor.clone()
    found: dict[str, Tensor] = {}
    for k, named in runs.items():
        for again in (0, 1):
            answered = run(module, named)
            found |= {f"{2 * k + again}.{output}": y.clone() for output, y in answered.items()}
    write_weights(Path(outputs), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
