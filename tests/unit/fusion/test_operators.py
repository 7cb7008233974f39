"""The whitelist agrees with the torch that runs it, and nothing in it writes or draws numbers."""

import pytest
import torch

from fusion.bindings import binding
from fusion.operators import ALIASES, FACTORIES, FIXED, names, operator, parse

ATEN = [name for name in names() if not name.startswith("int.")]
PLACEMENT = {"layout", "device", "pin_memory"}


def _torch_schema(name):
    base, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")._schema


@pytest.mark.parametrize("name", ATEN)
def test_a_schema_is_the_one_torch_has(name):
    """Parameters, their types and defaults are what this torch takes; results what it gives."""
    schema = _torch_schema(name)
    expected = [
        (a.name, a.has_default_value(), a.kwarg_only)
        for a in schema.arguments
        if a.name not in PLACEMENT
    ]
    ours = operator(name)
    assert expected == [(p.name, p.has_default, p.is_keyword_only) for p in ours.parameters]
    lists = [str(a.type).startswith(("List", "Optional[List")) for a in schema.arguments]
    assert lists[: len(expected)] == [p.is_list for p in ours.parameters]
    assert len(schema.returns) == len(ours.results)


@pytest.mark.parametrize("name", ATEN)
def test_an_operator_neither_writes_nor_draws_numbers(name):
    """Where torch marks an operator as random, the argument that makes it so is fixed."""
    base, _, overload = name.partition(".")
    call = getattr(getattr(torch.ops.aten, base), overload or "default")
    assert not call._schema.is_mutable
    if torch.Tag.nondeterministic_seeded in call.tags:
        assert any(key[0] == name for key in FIXED)


def test_every_operator_has_a_callable():
    """Nothing outside the whitelist does."""
    assert all(callable(binding(name)) for name in names())
    with pytest.raises(KeyError):
        binding("relu_")


def test_special_sets_name_operators_of_the_whitelist():
    """A misspelt name would silently lose its rule."""
    assert set(names()) >= FACTORIES | ALIASES | {name for name, _ in FIXED}
    for name, parameter in FIXED:
        assert parameter in [p.name for p in operator(name).parameters]


def test_a_schema_line_is_read():
    """Lists, optionals and keywords are told apart."""
    parsed = parse(
        "f", "f(Tensor self, Tensor?[] many, int[2]? size=, *, float x) -> (Tensor, Tensor)"
    )
    many, size, x = parsed.parameters[1:]
    assert (
        many.type,
        many.is_list,
        many.has_optional_items,
        many.is_optional,
    ) == ("Tensor", True, True, False)
    assert (size.is_list, size.is_optional, size.has_default) == (True, True, True)
    assert x.is_keyword_only
    assert parsed.results == ("Tensor", "Tensor")
