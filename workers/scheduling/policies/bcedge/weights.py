"""The trained agent as a file: safetensors, with what it was trained for as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from workers.scheduling.policies.bcedge.grid import ACTIONS, BATCHES, INSTANCES
from workers.scheduling.policies.bcedge.interference import Predictor
from workers.scheduling.policies.bcedge.networks import Networks
from workers.scheduling.policies.bcedge.state import FEATURES

SHIPPED = Path(__file__).with_name("agent.safetensors")
_MEANT_FOR = {
    "features": " ".join(FEATURES),
    "batches": " ".join(map(str, BATCHES)),
    "instances": " ".join(map(str, INSTANCES)),
}


def encode(networks: Networks, predictor: Predictor, about: Mapping[str, str]) -> bytes:
    """The file; how states are normalised is among the tensors. `about` goes into its metadata."""
    tensors = {f"agent.{name}": tensor for name, tensor in networks.state_dict().items()}
    tensors |= {f"interference.{name}": t for name, t in predictor.state_dict().items()}
    return save(tensors, {**about, **_MEANT_FOR})


def read(path: Path) -> tuple[Networks, Predictor]:
    """The agent of a file; raises ValueError when it was trained for other states or actions."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        for name, meant in _MEANT_FOR.items():
            if metadata.get(name) != meant:
                got = metadata.get(name)
                raise ValueError(f"{path}: {name}: expected {meant!r}, got {got!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    networks, predictor = Networks(len(FEATURES), len(ACTIONS)), Predictor()
    networks.load_state_dict(_below("agent.", tensors))
    predictor.load_state_dict(_below("interference.", tensors))
    return networks, predictor


def _below(prefix: str, by_name: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): v for name, v in by_name.items() if name.startswith(prefix)}


def about(path: Path) -> dict[str, str]:
    """What a file says of itself."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
