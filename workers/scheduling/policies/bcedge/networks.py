"""The small networks of agent and predictor."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

HIDDEN = 64
# Standard deviations; what lies farther from all that training saw is taken to lie there.
FAR = 4.0


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Forward:
    """What a network of `mlp` answers, without torch's cost per call, which is most of it here.

    It reads the memory of the parameters, so it changes with them.
    """

    def __init__(self, net: nn.Sequential) -> None:
        linear = [layer for layer in net if isinstance(layer, nn.Linear)]
        self._layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear
        ]

    def __call__(self, values: Floats) -> Floats:
        """[..., first size] to [..., last size]."""
        *before, (weight, bias) = self._layers
        for inner, its_bias in before:
            values = np.maximum(values @ inner + its_bias, 0.0)
        answer: Floats = values @ weight + bias
        return answer


class Networks(nn.Module):
    """Actor, twin critics and their targets, the temperature, and how states are normalised."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        sizes = features, HIDDEN, HIDDEN, actions
        self.actor = mlp(*sizes)
        self.critics = nn.ModuleList([mlp(*sizes), mlp(*sizes)])
        self.targets = nn.ModuleList([mlp(*sizes), mlp(*sizes)])
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def normalised(self, states: Tensor) -> Tensor:
        """States [n, features] float32 as the networks take them."""
        return ((states - self.mean) / self.scale).clamp(-FAR, FAR)

    def log_policy(self, states: Tensor, allowed: Tensor) -> Tensor:
        """Log-probabilities [n, actions] of normalised states; `allowed` [n, actions] bool.

        What is not allowed has a probability of almost 0, and no infinite logarithm.
        """
        logits: Tensor = self.actor(states)
        return torch.log_softmax(logits.masked_fill(~allowed, -1e8), dim=-1)
