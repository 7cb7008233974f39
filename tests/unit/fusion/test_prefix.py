"""A shared prefix runs once, on the rows of all, and nobody gets another's results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import starmap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fusion.codegen import generate
from fusion.dag import Call, FusedDag, build
from fusion.export import Exported, export
from fusion.ir import Graph, Node, Output, Ref, TensorSpec
from fusion.members import Member, arrange
from fusion.prefix import merge_prefix, values_with_rows
from fusion.probes import probe_inputs
from fusion.strategies.choice import Choice
from fusion.strategies.prefix import MergedCode
from fusion.strategies.verified import Verified
from fusion.strategies.work import Work
from fusion.validate import validate
from tests.unit.fusion.shared import example, exported
from tests.zoo import ZOO, Example


class Headed(nn.Module):
    """A head on the last output of a backbone with one input."""

    def __init__(self, backbone: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).flatten(1))


class HeadedText(nn.Module):
    """A head on the pooled output of the zoo's BERT."""

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(16, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.backbone(ids, mask)["pooled"])


def heads(name: str, classes: Sequence[int]) -> list[tuple[Example, Exported]]:
    """Functions on one backbone of the zoo, each with a head of its own."""
    backbone = example(name)
    made = []
    for seed, count in enumerate(classes):
        torch.manual_seed(seed)
        if name == "bert":
            module: nn.Module = HeadedText(backbone.module, count)
        else:
            (x,) = backbone.inputs.values()
            width = backbone.module(x).flatten(1).shape[1]
            module = Headed(backbone.module, width, count)
        its = Example(module.eval(), backbone.inputs)
        made.append((its, export(its.module, its.inputs, 8)))
    return made


def keys_of(made: Exported) -> list[str]:
    """Content keys of the weights, as their files give them."""
    return [hashlib.sha256(w.contiguous().numpy()).hexdigest() for w in made.weights.values()]


def flat(result: object) -> list[Tensor]:
    """What a module returned, as a list."""
    if isinstance(result, Tensor):
        return [result]
    return list(result.values() if isinstance(result, dict) else result)


def operators(graph: Graph) -> list[str]:
    """Those of its nodes."""
    return [node.operator for node in graph.nodes]


@pytest.mark.parametrize("name", ["mlp", "tiny_cnn", "bert", "vit", "lstm", "encoder"])
def test_heads_on_one_backbone_compute_it_once_and_get_what_is_theirs(name: str) -> None:
    """Each head against its module, at rows that differ."""
    made = heads(name, [3, 5, 3])
    graphs = [each.graph for _, each in made]
    merged = merge_prefix(graphs, [keys_of(each) for _, each in made])
    assert merged is not None
    validate(merged.graph)
    # the weights of the backbone once, and a head each
    contents = {
        (key, *spec[1:])
        for _, each in made
        for key, spec in zip(keys_of(each), each.graph.weights, strict=True)
    }
    assert len(merged.weights) == len(contents) < 3 * len(graphs[0].weights)
    assert len(merged.graph.nodes) < sum(len(graph.nodes) for graph in graphs)
    inputs = [
        probe_inputs(its.inputs, rows, rows) for (its, _), rows in zip(made, (1, 3, 2), strict=True)
    ]
    works = [
        Work(generate(each.graph), [*each.weights.values()], [*its_inputs.values()], 4)
        for (_, each), its_inputs in zip(made, inputs, strict=True)
    ]
    for (its, _), its_inputs, outcome in zip(made, inputs, MergedCode(merged)(works), strict=True):
        with torch.inference_mode():
            expected = flat(its.module(*its_inputs.values()))
        torch.testing.assert_close(outcome, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ZOO)
def test_the_same_function_twice_is_one_run(name: str) -> None:
    """Under two names: everything is prefix, and each gets its own rows."""
    made = exported(name)
    merged = merge_prefix([made.graph] * 2, [keys_of(made)] * 2)
    if not made.graph.batchable or made.graph.fixed_rows:
        assert merged is None
        return
    assert merged is not None
    validate(merged.graph)
    inputs = [[*probe_inputs(example(name).inputs, rows, rows).values()] for rows in (2, 1)]
    works = [Work(generate(made.graph), [*made.weights.values()], given, 4) for given in inputs]
    for work, outcome in zip(works, MergedCode(merged)(works), strict=True):
        torch.testing.assert_close(outcome, work.run(), rtol=1e-4, atol=1e-4)


def test_members_without_common_weights_share_nothing() -> None:
    """The same graph with other weights, other graphs, unknown contents."""
    one, other = exported("mlp"), exported("mlp", 1)
    assert merge_prefix([one.graph, other.graph], [keys_of(one), keys_of(other)]) is None
    assert merge_prefix([one.graph, one.graph], [None, None]) is None
    bert = exported("bert")
    assert merge_prefix([one.graph, bert.graph], [keys_of(one), keys_of(bert)]) is None


def test_what_only_looks_equal_is_not_shared() -> None:
    """`x * 1`, `x * 1.0` and `x * True` are three things, 0.0 and -0.0 two."""
    spec = TensorSpec("x", "float32", (None, 4))
    weight = exported("mlp").graph.weights[0]._replace(shape=(4,))

    def graph(factor: bool | int | float) -> Graph:
        nodes = (
            Node("mul.Scalar", (Ref("input", 0), factor)),
            Node("mul.Tensor", (Ref("node", 0), Ref("weight", 0))),
        )
        return Graph((spec,), (weight,), nodes, (Output(spec, Ref("node", 1)),))

    factors = [1, 1.0, True, 0.0, -0.0]
    for a in factors:
        for b in factors:
            merged = merge_prefix([graph(a), graph(b)], [["w"], ["w"]])
            assert (merged is not None) == (repr(a) == repr(b)), (a, b)


def test_a_value_without_rows_is_computed_again_by_who_needs_it() -> None:
    """Here a number of rows and what is transposed."""
    spec = TensorSpec("x", "float32", (None, 4))
    weight = exported("mlp").graph.weights[0]._replace(shape=(4, 4))
    nodes = (
        Node("linear", (Ref("input", 0), Ref("weight", 0))),
        Node("transpose.int", (Ref("node", 0), 0, 1)),
        Node("transpose.int", (Ref("node", 1), 0, 1)),
        Node("relu", (Ref("node", 2),)),
    )
    tails = ["neg", "tanh"]
    graphs = [
        Graph(
            (spec,), (weight,), (*nodes[:2], Node(tail, (Ref("node", 1),)),
            Node("transpose.int", (Ref("node", 2), 0, 1))), (Output(spec, Ref("node", 3)),),
        )
        for tail in tails
    ]  # fmt: skip
    merged = merge_prefix(graphs, [["w"], ["w"]])
    assert merged is not None
    found = operators(merged.graph)
    assert (found.count("linear"), found.count("transpose.int")) == (1, 4)
    assert values_with_rows(graphs[0], range(4)) == {Ref("node", 0), Ref("node", 3)}
    w, x, y = torch.randn(4, 4), torch.randn(2, 4), torch.randn(3, 4)
    first, second = generate(merged.graph).run([w], [x, y])
    torch.testing.assert_close(first, -(x @ w.T))
    torch.testing.assert_close(second, torch.tanh(y @ w.T))


def test_a_prefix_that_gives_other_results_is_not_used() -> None:
    """Rows that an operator turns round in between: the probe at deploy cannot see it."""
    spec = TensorSpec("x", "float32", (None, 4))
    weight = exported("mlp").graph.weights[0]._replace(shape=(4,))
    start = (
        Node("mul.Tensor", (Ref("input", 0), Ref("weight", 0))),
        Node("flip", (Ref("node", 0), (0,))),
    )
    graphs = [
        Graph(
            (spec,), (weight,),
            (*start, Node(tail, (Ref("node", 1),)), Node("flip", (Ref("node", 2), (0,)))),
            (Output(spec, Ref("node", 3)),),
        )
        for tail in ("neg", "tanh")
    ]  # fmt: skip
    merged = merge_prefix(graphs, [["w"], ["w"]])
    assert merged is not None
    strategy = Verified(MergedCode(merged))
    w, inputs = torch.rand(4), [torch.randn(2, 4), torch.randn(3, 4)]
    works = [Work(generate(graph), [w], [x], 4) for graph, x in zip(graphs, inputs, strict=True)]
    for _ in range(3):
        first, second = strategy(works)
        torch.testing.assert_close(first, [-(inputs[0] * w)])
        torch.testing.assert_close(second, [torch.tanh(inputs[1] * w)])


def test_a_dag_with_a_shared_prefix_answers_every_job() -> None:
    """Several jobs each, one of them bad, beside a stranger."""
    made = heads("bert", [3, 5])
    stranger = exported("mlp")
    members = [
        *(Member(generate(each.graph), 8, tuple(keys_of(each))) for _, each in made),
        Member(generate(stranger.graph), 8, tuple(keys_of(stranger))),
    ]
    dag = build(members)
    dag = FusedDag(dag.members, dag.key, dag.bytes, dag.build_s, dag.strategies, Choice(["prefix"]))
    examples = [*(its for its, _ in made), example("mlp")]
    weights = [[*each.weights.values()] for each in (*(m for _, m in made), stranger)]
    order = arrange(members)
    jobs = [[probe_inputs(examples[k].inputs, n, n) for n in (1, 2)] for k in order]
    for _ in range(2):
        calls = list(starmap(Call, zip([weights[k] for k in order], jobs, strict=True)))
        for k, its_jobs, results in zip(order, jobs, dag.run(calls), strict=True):
            for job, actual in zip(its_jobs, results, strict=True):
                with torch.inference_mode():
                    inputs = [job[spec.name] for spec in members[k].program.graph.inputs]
                    expected = flat(examples[k].module(*inputs))
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 2**16), st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_random_trees_of_heads_equal_their_members(seed: int, rows: list[int]) -> None:
    """Graphs that part at random places: some share much, some little, some nothing."""
    graphs = [_branch(seed, member) for member in range(len(rows))]
    keys = [[spec.name for spec in graph.weights] for graph in graphs]
    merged = merge_prefix(graphs, keys)
    if merged is None:
        return
    torch.manual_seed(seed)
    contents = {name: torch.randn(4, 4) for name in {n for names in keys for n in names}}
    works = [
        Work(generate(graph), [contents[n] for n in names], [torch.randn(count, 4)], 4)
        for graph, names, count in zip(graphs, keys, rows, strict=True)
    ]
    for work, outcome in zip(works, MergedCode(merged)(works), strict=True):
        torch.testing.assert_close(outcome, work.run(), rtol=1e-4, atol=1e-4)


def _branch(seed: int, member: int) -> Graph:
    """A chain of layers; where it parts from the others depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    depth = int(torch.randint(2, 7, (1,), generator=generator))
    parts_at = [int(n) for n in torch.randint(0, depth + 1, (4,), generator=generator)]
    spec = TensorSpec("x", "float32", (None, 4))
    nodes: list[Node] = []
    weights = []
    last = Ref("input", 0)
    for layer in range(depth):
        is_own = layer >= parts_at[member]
        name = f"w{layer}.{member}" if is_own else f"w{layer}"
        weights.append(exported("mlp").graph.weights[0]._replace(name=name, shape=(4, 4)))
        nodes.append(Node("linear", (last, Ref("weight", layer))))
        nodes.append(Node("tanh" if layer % 2 else "relu", (Ref("node", len(nodes) - 1),)))
        nodes.append(Node("add.Tensor", (Ref("node", len(nodes) - 1), Ref("input", 0))))
        last = Ref("node", len(nodes) - 1)
    return Graph((spec,), tuple(weights), tuple(nodes), (Output(spec, last),))
