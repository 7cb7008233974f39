"""Which parameter of forward each input of a function is, and what its outputs are called."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fusion.errors import ExportError, InvalidExample

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameter_names(module: nn.Module, inputs: Sequence[str]) -> dict[str, str]:
    """Parameter -> input, in forward's order.

    Inputs are named after parameters; where none of the names match, they are taken in order.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    known = [p.name for p in parameters if p.kind in _NAMED]
    if set(inputs) <= set(known):
        return {name: name for name in known if name in inputs}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return {name: name for name in inputs}
    if set(inputs).isdisjoint(known) and len(inputs) <= len(known):
        return dict(zip(known, inputs, strict=False))
    unknown = sorted(set(inputs) - set(known))
    problem = f"example inputs {unknown} are no parameters of forward, which takes {known}"
    raise InvalidExample(problem, "Name the inputs after forward's parameters")


def leaves(prefix: str, tree: Any) -> list[tuple[str, int]]:
    """Names of what forward returns, from a tree of the same form that holds numbers."""
    if isinstance(tree, int):
        return [(prefix or "output", tree)]
    if isinstance(tree, Mapping):
        parts = [(f"{prefix}_{key}" if prefix else str(key), tree[key]) for key in tree]
    elif isinstance(tree, list | tuple):
        parts = [(f"{prefix or 'output'}_{i}", item) for i, item in enumerate(tree)]
    else:
        problem = f"forward returns a {type(tree).__name__}"
        raise ExportError(problem, "Return a tensor, or a tuple, list or dict of tensors")
    return [leaf for name, item in parts for leaf in leaves(name, item)]
