"""The small networks of agent and predictor."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

HIDDEN = 64
# Standard deviations; what lies farther from all that training saw is taken to lie there.
_FAR = 4.0


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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
        return ((states - self.mean) / self.scale).clamp(-_FAR, _FAR)

    def log_policy(self, states: Tensor, allowed: Tensor) -> Tensor:
        """Log-probabilities [n, actions] of normalised states; `allowed` [n, actions] bool.

        What is not allowed has a probability of almost 0, and no infinite logarithm.
        """
        logits: Tensor = self.actor(states)
        return torch.log_softmax(logits.masked_fill(~allowed, -1e8), dim=-1)
