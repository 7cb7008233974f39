"""What torch, numpy and Python raise where memory cannot be had."""

import torch

_CPU_ALLOCATION = ("can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, rather than an operator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _CPU_ALLOCATION)
