"""A function of four times its budget, as it is written, called and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
import torch

NAME = "larger"
TIMES = 4
# what a process takes beside weights and activations when it first runs anything
BESIDE_BYTES = 32 * 10**6
ANSWER_S = 600.0
HANDLER = '''
import torch


def load():
    """Layers of equal width, weights of a seed."""
    torch.manual_seed(0)
    layers = []
    for _ in range({layers}):
        layers += [torch.nn.Linear({width}, {width}), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def example_inputs():
    return {{"x": torch.zeros(2, {width})}}
'''


class Size(NamedTuple):
    """Of the model; the budget is a quarter."""

    width: int
    layers: int

    @property
    def weight_bytes(self) -> int:
        """All layers."""
        return 4 * self.layers * (self.width + 1) * self.width

    @property
    def budget_bytes(self) -> int:
        """What the worker may use."""
        return self.weight_bytes // TIMES


def handler_of(size: Size) -> str:
    """The function's source."""
    return HANDLER.format(width=size.width, layers=size.layers)


def eager(source: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What PyTorch answers."""
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 -- it is the text above
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = names["load"]()(torch.from_numpy(x)).numpy()
    return found


def call(url: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One call; fails loudly."""
    target = f"{url}/v1/functions/{NAME}/invoke"
    answer = requests.post(target, json={"inputs": {"x": x.tolist()}}, timeout=ANSWER_S)
    assert answer.status_code == 200, answer.text[:500]
    [output] = answer.json()["outputs"].values()
    return np.array(output, np.float32)


def worker_of(url: str) -> dict[str, Any]:
    """What the one worker says of itself."""
    answer = requests.get(url + "/v1/workers", timeout=ANSWER_S)
    [worker] = answer.json()["workers"]
    return dict(worker)


def high_water_bytes(process: Path) -> int:
    """The most that a process had in memory, since it was last set back."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{process}/status has no VmHWM")
