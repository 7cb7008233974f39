"""Modules that no rung of export takes: what they return, may share and take, and their weights."""

import pytest
import torch
from torch import nn

from fusion.eager import bind, run, state_of
from fusion.eager_probes import (
    is_batchable,
    is_repeatable,
    measure_activation_bytes,
    output_specs,
)
from fusion.errors import ExportError, WeightsError
from fusion.ir import TensorSpec
from tests.unit.fusion import models

X = {"x": torch.arange(8.0).reshape(2, 4)}


@pytest.mark.parametrize(
    ("kind", "joins"),
    [
        (models.Branches, False),
        (models.Loops, False),
        (models.Conditional, False),
        (models.Chooses, True),
        (models.Centres, False),
    ],
)
def test_rows_are_joined_only_where_no_branch_looks_at_another_row(kind, joins):
    """Probes are unlike enough to take different branches."""
    module = kind().eval()
    assert output_specs(module, X)[0] == TensorSpec("output", "float32", (None, 4))
    assert is_repeatable(module, X, [1, 3])
    assert is_batchable(module, X) == joins


def test_ids_are_probed_with_others_of_the_example():
    """Their order alone would not change what a branch looks at."""
    ids = {"x": torch.tensor([[1, 2, 3, 9], [1, 2, 3, 9]])}
    assert is_repeatable(models.Totals(), ids, [1])
    assert not is_batchable(models.Totals(), ids)


@pytest.mark.parametrize("kind", [models.Counts, models.Remembers, models.Draws])
def test_what_answers_differently_each_time_is_found(kind):
    """A counter in a buffer or an attribute, and random numbers."""
    assert not is_repeatable(kind().eval(), X, [1, 3])


def test_a_module_that_writes_to_its_weights_is_found():
    """Even where its answers stay the same."""

    class Notes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return x

    assert not is_repeatable(Notes().eval(), X, [1])


@pytest.mark.parametrize(
    ("kind", "said"),
    [(models.Selects, "Dimension 0"), (models.Sums, "Dimension 0"), (models.Widens, "on values")],
)
def test_shapes_that_rows_do_not_decide_are_refused(kind, said):
    """A caller could not be told what comes."""
    with pytest.raises(ExportError, match=said):
        output_specs(kind().eval(), X)


def test_weights_are_bound_in_the_place_of_a_modules_own():
    """By name, tied ones once, without a copy; the module then computes with them."""
    torch.manual_seed(0)
    source, other = models.Twins().eval(), models.Twins().eval()
    inputs = {"x": X["x"], "scale": torch.ones(2, 1)}
    weights = state_of(source)
    assert list(weights) == ["a.weight"]
    bind(other, weights)
    assert other.b.weight is not None
    assert other.b.weight.data_ptr() == other.a.weight.data_ptr() == weights["a.weight"].data_ptr()
    found, expected = run(other, inputs), run(source, inputs)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "'a.weight' is a parameter or buffer of one of them alone"),
        ({"a.weight": torch.ones(4, 5)}, r"\[4, 4\], the file torch.float32 \[4, 5\]"),
        ({"a.weight": torch.ones(4, 4).double()}, "torch.float64"),
    ],
)
def test_weights_of_another_module_are_refused(weights, said):
    """Before anything is replaced."""
    with pytest.raises(WeightsError, match=said):
        bind(models.Twins(), weights)


def test_activations_are_counted_while_they_live():
    """Two hidden layers of 1,000 at once, input and output; freed ones no longer."""
    module = nn.Sequential(
        nn.Linear(4, 1000), nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Linear(1000, 4)
    ).eval()
    x, hidden = 2 * 4 * 4, 2 * 1000 * 4
    assert measure_activation_bytes(module, {"input": X["x"]}) == x + 2 * hidden
