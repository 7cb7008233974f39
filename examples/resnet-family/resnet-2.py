"""Member 2 of the family."""

from family import build, example_inputs
from torch import nn

__all__ = ["example_inputs", "load"]


def load() -> nn.Module:
    """A ResNet-18 with the weights of seed 2."""
    return build(seed=2)
