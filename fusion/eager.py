"""What no rung of export takes runs eagerly: a module from its source, over stored weights.

Only parameters and buffers come from the weights file; all else is what `load()` makes anew.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusion.errors import ExportError, WeightsError
from fusion.signature import leaves


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first name, a tensor under two names once."""
    found = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found}


def rebuilt(handler: ModuleType, weights: Mapping[str, Tensor]) -> nn.Module:
    """What `load()` gives, over these weights; raises TypeError and WeightsError."""
    module = handler.load()
    if not isinstance(module, nn.Module):
        raise TypeError(f"load() returned {type(module).__name__}, expected a torch.nn.Module")
    module.eval().requires_grad_(False)
    bind(module, weights)
    return module


def bind(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put these tensors where the module has its own; raises WeightsError for what does not fit."""
    own = dict([*module.named_parameters(), *module.named_buffers()])
    if own.keys() != weights.keys():
        differ = sorted(own.keys() ^ weights.keys())[0]
        raise WeightsError(f"{differ!r} is a parameter or buffer of one of them alone")
    for name, tensor in own.items():
        found = weights[name]
        if (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            raise WeightsError(
                f"{name!r}: the module has {tensor.dtype} {list(tensor.shape)}, "
                f"the file {found.dtype} {list(found.shape)}"
            )
    names = {id(tensor): name for name, tensor in own.items()}
    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                bound = weights[names[id(parameter)]]
                part._parameters[key] = nn.Parameter(bound, requires_grad=False)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = weights[names[id(buffer)]]


def run(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Outputs by name; raises ExportError for what is no tensor, and what forward raises."""
    with torch.inference_mode():
        return named_outputs(module(**inputs))


def named_outputs(returned: Any) -> dict[str, Tensor]:
    """`output`, `output_0`.., or the keys of the dict that forward returned."""
    values, spec = pytree.tree_flatten(returned)
    tree = pytree.tree_unflatten(list(range(len(values))), spec)
    found = {name: values[k] for name, k in leaves("", tree) if values[k] is not None}
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ExportError(f"output {name!r} is {type(value).__name__}, no tensor")
    return found
