"""The whitelist: each operator's parameters and results, read from its schema. No torch."""

import re
from functools import cache
from typing import NamedTuple

from fusion.schemas import DEVICE_SCHEMAS, SCHEMAS

_PARAMETER = re.compile(r"(\w+)(\?)?(\[\d*\])?(\?)? (\w+)(=)?")

# The values a string argument may have; an equation is checked by its alphabet.
STRINGS = {
    "approximate": ("none", "tanh"),
    "padding": ("valid", "same"),
    "rounding_mode": ("floor", "trunc"),
    "mode": ("constant", "reflect", "replicate", "circular"),
    "indexing": ("ij", "xy"),
}
EQUATION = re.compile(r"[A-Za-z.,> -]{1,100}")

# Arguments that would make an operator random, or let it write to its own weights, are fixed:
# weights are shared by content, so a graph must never change them.
FIXED: dict[tuple[str, str], object] = {
    ("batch_norm", "training"): False,
    ("instance_norm", "running_mean"): None,
    ("instance_norm", "running_var"): None,
    ("dropout", "train"): False,
    ("feature_dropout", "train"): False,
    ("lstm.input", "train"): False,
    ("gru.input", "train"): False,
    ("rnn_tanh.input", "train"): False,
    ("rnn_relu.input", "train"): False,
    ("scaled_dot_product_attention", "dropout_p"): 0.0,
}
# They make a tensor out of nothing: the size is bounded and the device is the inputs'.
FACTORIES = frozenset(
    {"arange", "arange.start", "arange.start_step", "zeros", "ones", "full", "scalar_tensor"}
    | {"eye", "linspace"}
)
SIZED = FACTORIES | {"new_zeros", "new_ones", "new_full"}  # `size` says how much they allocate
# Per operator: the parameters whose product says how large its result is, or is to one element.
GROWING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SIZED, ("size", "n", "n", "steps")),  # eye makes n * n
    **dict.fromkeys(("expand", "broadcast_to"), ("size",)),
    **dict.fromkeys(("repeat", "repeat_interleave.self_int"), ("repeats",)),
    "tile": ("dims",),
    "one_hot": ("num_classes",),
    "col2im": ("output_size",),
    **{
        name: ("output_size", "scale_factors")
        for name in (line.partition("(")[0] for line in SCHEMAS.splitlines())
        if name.startswith(("adaptive_", "_adaptive_", "upsample_"))
    },
}
# They add to a size: absurd one by one, not in their product.
ADDING = ("pad", "padding", "output_padding", "kernel_size", "stride", "upscale_factor")
# They return their input: removed from every deployed graph.
ALIASES = frozenset({"alias", "detach", "lift_fresh_copy", "dropout", "feature_dropout"})


class Parameter(NamedTuple):
    """One parameter of a schema: `Tensor?[] indices` is a list of optional tensors."""

    name: str
    type: str
    is_list: bool
    is_optional: bool
    has_optional_items: bool
    has_default: bool
    is_keyword_only: bool


class Operator(NamedTuple):
    """What a node may say about an operator, and what it returns."""

    name: str
    parameters: tuple[Parameter, ...]
    results: tuple[str, ...]  # ("Tensor",), ("Tensor", "Tensor"), ("Tensor[]",), ("SymInt",)

    @property
    def is_list(self) -> bool:
        """Whether the number of results is the node's to say."""
        return self.results == ("Tensor[]",)

    @property
    def has_several(self) -> bool:
        """Whether a call returns a sequence, if only of one."""
        return self.is_list or len(self.results) > 1

    @property
    def result_type(self) -> str:
        """What each result is: Tensor, SymInt or float."""
        return self.results[0].removesuffix("[]")


@cache
def operator(name: str) -> Operator:
    """Look an operator up, of the whitelist or of specialised graphs; KeyError for any other."""
    return parse(name, (_LINES if name in _LINES else _DEVICE_LINES)[name])


def names() -> list[str]:
    """Every operator of the whitelist."""
    return list(_LINES)


def is_listed(name: str) -> bool:
    """Whether a graph may bring this operator along."""
    return name in _LINES


def parse(name: str, schema: str) -> Operator:
    """Read one schema line."""
    inside, _, result = schema[schema.index("(") + 1 :].rpartition(") -> ")
    parameters = []
    is_keyword_only = False
    for text in filter(None, inside.split(", ")):
        if text == "*":
            is_keyword_only = True
        else:
            parameters.append(_parameter(text, is_keyword_only))
    return Operator(name, tuple(parameters), tuple(result.strip("()").split(", ")))


def _parameter(text: str, is_keyword_only: bool) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    assert match is not None, text
    kind, mark, brackets, last_mark, name, default = match.groups()
    is_list = brackets is not None
    return Parameter(
        name=name,
        type=kind,
        is_list=is_list,
        is_optional=bool(last_mark) or (bool(mark) and not is_list),
        has_optional_items=bool(mark) and is_list,
        has_default=default is not None,
        is_keyword_only=is_keyword_only,
    )


def _by_name(schemas: str) -> dict[str, str]:
    return {line[: line.index("(")]: line for line in schemas.splitlines() if line}


# parsed on first use: a graph names a dozen of them
_LINES = _by_name(SCHEMAS)
_DEVICE_LINES = _by_name(DEVICE_SCHEMAS)
