"""AOTInductor's code computes what generated code does, at any number of rows."""

import os

import pytest
import torch

from fusion.codegen import generate
from fusion.compiled import MAX_ROWS, CompileError, compile_graph, has_compiler, load
from fusion.ir import Node, Ref, WeightSpec
from fusion.prefix import merge_prefix
from fusion.tiers import COMPILED
from tests.unit.fusion.shared import example, exported, small_graph
from tests.unit.fusion.test_prefix import heads, keys_of

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")


@pytest.mark.long
@needs_compiler
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_a_compiled_package_computes_the_same(tmp_path, monkeypatch):
    """Other rows than it was traced with, other weights, inputs that are not dense."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    made = exported("mlp")
    package = tmp_path / "mlp.pt2"
    compile_graph(made.graph, package)
    assert {path.name for path in tmp_path.iterdir()} <= {"mlp.pt2", "cache"}
    program = generate(made.graph)
    program.tiers.add(COMPILED, load(made.graph, package, runners=2))
    for seed in (0, 1):
        weights = list(exported("mlp", seed).weights.values())
        for rows in (1, 2, 7):
            x = example("mlp").inputs["x"][:1].repeat(rows, 1) + torch.rand(rows, 16)
            for inputs in ([x], [torch.stack([x, x], 2)[..., 0]]):
                expected = generate(made.graph).run(weights, inputs)
                for _ in range(14):
                    actual = program.tiers.run(rows, weights, inputs)
                    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert program.tiers.is_proven(COMPILED)
    # more rows than it was compiled for run on generated code
    many = torch.rand(MAX_ROWS + 1, 16)
    run = load(made.graph, package, runners=1)
    with pytest.raises(IndexError, match="1024 at most"):
        run(weights, [many])


def test_a_broken_package_is_a_compile_error(tmp_path):
    """It names the file."""
    package = tmp_path / "broken.pt2"
    package.write_bytes(os.urandom(1000))
    with pytest.raises(CompileError, match=r"broken\.pt2"):
        load(exported("mlp").graph, package, runners=1)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_traced_is_a_compile_error(tmp_path):
    """Nothing is left behind."""
    graph = small_graph(
        Node("add.Tensor", (Ref("input", 0), Ref("weight", 0))),
        weights=(WeightSpec("w", "float32", (3, 5)),),
    )
    with pytest.raises(CompileError):
        compile_graph(graph, tmp_path / "never.pt2")
    assert list(tmp_path.iterdir()) == []


@needs_compiler
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_shared_prefix_takes_other_rows_of_each_member(tmp_path, monkeypatch):
    """Rows of members are independent of each other."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    made = [each for _, each in heads("mlp", [3, 5])]
    merged = merge_prefix([each.graph for each in made], [keys_of(each) for each in made])
    assert merged is not None
    program = generate(merged.graph, merged.row_groups)
    assert program.row_groups == (0, 1)
    compile_graph(merged.graph, tmp_path / "merged.pt2", program.row_groups)
    run = load(merged.graph, tmp_path / "merged.pt2", runners=1)
    held = [[*each.weights.values()] for each in made]
    weights = [held[member][index] for member, index in merged.weights]
    for rows in ((1, 1), (3, 1), (2, 5)):
        inputs = [torch.rand(count, 16) for count in rows]
        torch.testing.assert_close(
            run(weights, inputs), program.run(weights, inputs), rtol=1e-4, atol=1e-5
        )
