"""A module becomes a graph that computes the same, or an error says why and where."""

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from fusion.check import compare
from fusion.errors import ExportError
from fusion.export import export, from_exported_program
from fusion.ir import Graph
from tests.unit.fusion import models
from tests.unit.fusion.shared import example, exported
from tests.zoo import MAX_ROWS, ZOO

X = {"x": torch.arange(8.0).reshape(2, 4)}


def _line(mark: str) -> str:
    source = Path(models.__file__)
    lines = source.read_text().splitlines()
    number = next(i for i, text in enumerate(lines, 1) if text.endswith(f"# line: {mark}"))
    return f"{source}:{number}"


@pytest.mark.parametrize("name", ZOO)
def test_the_graph_computes_what_the_module_computes(name):
    """At 1, 2, 5 and the most rows; rows are symbolic and may be joined."""
    module, inputs = example(name)
    made = exported(name)
    found = compare(made.graph, made.weights, module, inputs, [1, 2, 5, MAX_ROWS])
    assert found.is_within(1e-4), found
    assert (made.row_buckets, made.batchable) == ((), True)
    assert made.graph == Graph.decode(made.graph.encode())


@pytest.mark.parametrize("name", ["resnet18", "bert"])
def test_models_of_one_architecture_differ_in_weights_alone(name):
    """Functions fine-tuned from one model share generated code."""
    first, second = exported(name), exported(name, seed=1)
    assert first.graph.architecture == second.graph.architecture
    assert any(not torch.equal(first.weights[n], second.weights[n]) for n in first.weights)


def test_outputs_are_named_by_what_forward_returns():
    """A tensor, a tuple, a dict."""
    names = {
        name: [o.spec.name for o in exported(name).graph.outputs]
        for name in ("mlp", "tuple_output", "dict_output")
    }
    assert names == {
        "mlp": ["output"],
        "tuple_output": ["output_0", "output_1", "output_2"],
        "dict_output": ["scores", "hidden"],
    }


def test_inputs_that_match_no_parameter_are_taken_in_order():
    """nn.Sequential calls its parameter `input`; users call theirs otherwise."""
    assert [spec.name for spec in exported("mlp").graph.inputs] == ["x"]


def test_inputs_are_matched_by_name_in_any_order():
    """The graph's order is forward's."""
    module = models.Twins()
    inputs = {"scale": torch.full((2, 1), 3.0), "x": X["x"]}
    made = export(module, inputs, MAX_ROWS)
    assert [spec.name for spec in made.graph.inputs] == ["x", "scale"]
    assert compare(made.graph, made.weights, module, inputs, [1, 3]).is_within(1e-6)


def test_a_tensor_under_two_names_is_one_weight():
    """Tied weights are stored once."""
    made = export(models.Twins(), {"x": X["x"], "scale": torch.ones(2, 1)}, MAX_ROWS)
    assert len(made.graph.weights) == 1


@pytest.mark.parametrize(
    ("module", "mark", "said"),
    [
        (models.Branches, "branch", "torch.where"),
        (models.Loops, "loop", "torch.where"),
        (models.Selects, "select", "depends on data"),
        (models.Draws, "draw", "'rand_like' is not supported"),
        (models.Raises, "raise", "ValueError: no such thing"),
        (models.Conditional, "cond", "torch.cond"),
    ],
)
def test_what_cannot_be_exported_names_the_line_and_what_to_do(module, mark, said, capfd):
    """The line is the user's, not one of torch, and torch prints nothing of its own."""
    with pytest.raises(ExportError, match=said) as caught:
        export(module(), X, MAX_ROWS)
    assert capfd.readouterr() == ("", "")
    assert _line(mark) == caught.value.location
    assert caught.value.what_to_do


def test_state_in_a_buffer_is_refused():
    """A function has no state between calls."""
    with pytest.raises(ExportError, match="changes its buffer 'calls'"):
        export(models.Counts(), X, MAX_ROWS)


def test_state_in_an_attribute_is_found_by_comparing():
    """Export freezes it; the module then answers the same input differently."""
    module = models.Remembers()
    made = export(module, X, MAX_ROWS)
    assert not compare(made.graph, made.weights, module, X, [1]).is_stateless


def test_an_output_without_rows_is_refused():
    """Rows out are rows in."""
    with pytest.raises(ExportError, match="does not have the rows as dimension 0"):
        export(models.Sums(), X, MAX_ROWS)


def _worst(made, module, inputs):
    """The largest relative difference of any of its graphs."""
    found = [compare(g, made.weights, module, inputs, []) for g in made.graphs]
    return max(comparison.relative for comparison in found)


def test_a_module_without_symbolic_rows_has_a_static_graph_per_bucket():
    """It is said; rows that do not depend on each other may be joined."""
    module = models.Pairs()
    made = export(module, X, 8)
    assert (made.row_buckets, made.batchable) == ((1, 2, 4, 8), True)
    assert "exported for batches of 1, 2, 4, 8 alone" in made.notes[0]
    assert _worst(made, module, X) <= 1e-6


def test_static_graphs_share_their_weights():
    """Folded, channels last, and each with its own constants; only numbers the module allows."""
    torch.manual_seed(0)
    module, inputs = models.Evens(), {"x": torch.randn(2, 3, 4, 4)}
    module.norm.running_mean.normal_()
    made = export(module, inputs, 9)
    assert (made.row_buckets, made.batchable) == ((2, 4, 8), True)
    assert _worst(made, module, inputs) <= 1e-4
    kernels = [[s.name for s in g.weights if len(s.shape) == 4] for g in made.graphs]
    assert kernels == [kernels[0]] * 3
    assert len(kernels[0]) == 1
    assert not any("batch_norm" in n.operator for g in made.graphs for n in g.nodes)
    by_rows = [name for name, w in made.weights.items() if w.shape[1:] == (8,) and w.dim() == 2]
    assert len(by_rows) == 3
    assert set(made.weights) == {s.name for g in made.graphs for s in g.weights}


@pytest.mark.parametrize("kind", [models.Swaps, models.Places])
def test_rows_that_depend_on_their_place_are_not_joined(kind):
    """Nor would filling a bucket up leave them as they are."""
    made = export(kind(), X, 4)
    assert (made.row_buckets, made.batchable) == ((2, 4), False)
    assert _worst(made, kind(), X) <= 1e-6


def test_rows_that_depend_on_each_other_are_not_joined():
    """f(cat(a, b)) is not cat(f(a), f(b)): the graph is exact, but not batchable."""
    module = models.Centres()
    made = export(module, X, MAX_ROWS)
    assert (made.row_buckets, made.batchable) == ((), False)
    assert compare(made.graph, made.weights, module, X, [1, 2, 5]).is_within(1e-6)


def test_a_saved_exported_program_deploys_as_it_is():
    """A `.pt2` written elsewhere, with or without example inputs."""
    module, inputs = example("tiny_cnn")
    rows = torch.export.Dim("n", min=1, max=MAX_ROWS)
    program = torch.export.export(module, (inputs["x"],), dynamic_shapes=({0: rows},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    made = from_exported_program(loaded, {"x": inputs["x"]}, MAX_ROWS)
    found = compare(made.graph, made.weights, module, {"x": inputs["x"]}, [1, MAX_ROWS])
    assert found.is_within(1e-4)
    assert made.batchable
    assert not from_exported_program(loaded).batchable


def test_a_static_exported_program_has_fixed_rows():
    """Its batch is what it was exported with."""
    program = torch.export.export(nn.Linear(4, 2), (torch.ones(3, 4),))
    assert from_exported_program(program).graph.fixed_rows == 3


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "is empty"),
        ({"x": [1.0]}, "is list, no tensor"),
        ({"x": torch.tensor(1.0)}, r"has shape \(\)"),
        ({"x": torch.ones(2, 4), "y": torch.ones(3, 4)}, r"different rows: \[2, 3\]"),
        ({"x": torch.ones(2, 4, dtype=torch.complex64)}, "dtype torch.complex64"),
        ({"x": torch.ones(2, 4), "y": torch.ones(2, 4)}, r"\['y'\] are no parameters of forward"),
    ],
)
def test_bad_example_inputs_are_named(inputs, said):
    """Before anything is traced."""
    with pytest.raises(ExportError, match=said):
        export(models.Centres(), inputs, MAX_ROWS)
