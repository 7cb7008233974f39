"""Captured runs give what generated code gives, or are not used; nothing is captured on the way."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from fusion.codegen import Program, generate
from fusion.dag import Call, FusedDag, build
from fusion.errors import BudgetExceeded, CaptureError
from fusion.graphs.cache import GraphCache
from fusion.graphs.children import assemble
from fusion.graphs.graphs import Graphs
from fusion.graphs.group import CHILDREN, GRAPHS, STACK, STREAMS
from fusion.graphs.member import Part, capture_member
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.members import Member, arrange
from fusion.probes import probe_inputs
from fusion.strategies.choice import TRIAL_RUNS, WARM_RUNS
from fusion.strategies.work import Work
from fusion.tiers import GENERATED, GRAPH
from tests.unit.fusion.shared import example, exported, small_graph
from tests.unit.fusion_graphs.cpu_backend import CpuBackend, no_bindings

ROOM_BYTES = 1 << 30


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """As the worker runs and captures."""
    with torch.inference_mode():
        yield


@pytest.fixture
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture
def graphs(backend: CpuBackend) -> Graphs:
    return Graphs(backend, GraphCache(ROOM_BYTES))


def part(name: str, seed: int = 0, rows: int = 4) -> Part:
    """A zoo model with weights of its own storage."""
    made = exported(name, seed)
    return Part(generate(made.graph), [w.clone() for w in made.weights.values()], rows)


def inputs(name: str, rows: int, seed: int = 0) -> list[Tensor]:
    return list(probe_inputs(example(name).inputs, rows, seed).values())


def in_order(graph: Graph, name: str, rows: int, seed: int = 0) -> list[Tensor]:
    made = probe_inputs(example(name).inputs, rows, seed)
    return [made[spec.name] for spec in graph.inputs]


def replay(graphs: Graphs, its: Part, job: list[Tensor]) -> list[Tensor] | None:
    return graphs.run(its.program, its.rows, its.weights, job)


def capture_all(graphs: Graphs, parts: list[Part]) -> int:
    count = 0
    while graphs.capture_next(parts):
        count += 1
        assert count < 50, "there is no end to what is lacking"
    return count


MODELS = ["mlp", "tiny_cnn", "bert", "lstm", "several_inputs", "tuple_output", "dict_output", "vit"]


@pytest.mark.parametrize("name", MODELS)
def test_a_captured_run_equals_generated_code(name: str, graphs: Graphs) -> None:
    """At every number of rows up to the bucket, and after runs that have left rows behind."""
    its = part(name)
    assert graphs.capture_next([its])
    assert not graphs.capture_next([its])
    for rows in (4, 1, 3, 4):
        job = in_order(its.program.graph, name, rows, seed=rows)
        found = replay(graphs, its, job)
        if rows < 4 and not its.program.graph.batchable:
            assert found is None
            continue
        assert found is not None
        expected = its.program.run(its.weights, job)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_captured_on_the_way_of_a_run(graphs: Graphs, backend: CpuBackend) -> None:
    """A run that nothing is captured for is left to generated code."""
    its = part("mlp")
    assert replay(graphs, its, inputs("mlp", 2)) is None
    assert its.program.tiers.run(4, its.weights, inputs("mlp", 2))
    assert backend.made == []


def test_new_weights_at_the_same_addresses_need_no_capture(
    graphs: Graphs, backend: CpuBackend
) -> None:
    """What is read is what lies there at the time."""
    its = part("tiny_cnn")
    graphs.capture_next([its])
    for seed in (1, 2):
        other = exported("tiny_cnn", seed)
        for weight, new in zip(its.weights, other.weights.values(), strict=True):
            weight.copy_(new)
        job = inputs("tiny_cnn", 4, seed)
        expected = generate(other.graph).run(list(other.weights.values()), job)
        torch.testing.assert_close(replay(graphs, its, job), expected)
    assert len(backend.made) == 1


def test_the_same_architecture_at_another_address_is_another_graph(graphs: Graphs) -> None:
    """One weight elsewhere is enough."""
    its = part("mlp")
    graphs.capture_next([its])
    moved = Part(its.program, [*its.weights[:-1], its.weights[-1].clone()], its.rows)
    assert replay(graphs, moved, inputs("mlp", 4)) is None
    assert graphs.capture_next([moved])
    assert graphs.cache.stats().entries == 2


def test_outputs_outlive_the_next_run(graphs: Graphs) -> None:
    """They are copies."""
    its = part("mlp")
    graphs.capture_next([its])
    first = replay(graphs, its, inputs("mlp", 4, seed=1))
    assert first is not None
    kept = [x.clone() for x in first]
    replay(graphs, its, inputs("mlp", 4, seed=2))
    torch.testing.assert_close(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(1, 1),
        torch.ones(4, 16, dtype=torch.float64),
        torch.ones(5, 16),
        torch.ones(0, 16),
    ],
    ids=["would broadcast", "would convert", "too many rows", "no rows"],
)
def test_inputs_that_do_not_fit_are_not_copied(wrong: Tensor, graphs: Graphs) -> None:
    """Generated code takes them, or says what is wrong."""
    its = part("mlp")
    graphs.capture_next([its])
    assert replay(graphs, its, [wrong]) is None


def test_padding_is_left_where_fewer_rows_run_faster_by_themselves(backend: CpuBackend) -> None:
    """Measured at the fewest rows of the bucket."""
    its = part("mlp")
    seconds = backend.seconds
    # generated code: trials at four rows, then as many at three
    trials = WARM_RUNS + TRIAL_RUNS
    costs = iter([10.0] * trials + [0.5] * trials)

    def by_rows(run: Callable[[], object]) -> float:
        found = seconds(run)
        return next(costs) if found == backend.costs_s["generated"] else found

    backend.seconds = by_rows  # type: ignore[method-assign]
    member = capture_member(backend, its)
    assert member.takes(inputs("mlp", 4))
    assert not member.takes(inputs("mlp", 3))


def test_rows_that_influence_each_other_are_not_padded(graphs: Graphs) -> None:
    """Zeros would change the others."""
    spec = TensorSpec("x", "float32", (None, 4))
    nodes = (
        Node("mean.dim", (Ref("input", 0), (0,))),
        Node("sub.Tensor", (Ref("input", 0), Ref("node", 0))),
    )
    out = (Output(spec._replace(name="y"), Ref("node", 1)),)
    its = Part(generate(Graph((spec,), (), nodes, out, None, False)), [], 4)
    assert graphs.capture_next([its])
    assert replay(graphs, its, [torch.ones(3, 4)]) is None
    x = torch.rand(4, 4)
    torch.testing.assert_close(replay(graphs, its, [x]), [x - x.mean(0)])


def test_an_output_that_is_a_view_of_weights_does_not_hold_their_memory(
    backend: CpuBackend,
) -> None:
    """Else an evicted function's slot would stay as long as its graph."""
    spec = TensorSpec("x", "float32", (None, 4))
    weight = WeightSpec("w", "float32", (2, 4))
    out = (Output(spec._replace(name="y"), Ref("weight", 0)),)
    its = Part(generate(Graph((spec,), (weight,), (), out, 2)), [torch.rand(2, 4)], 2)
    bodies = []
    capture = backend.capture
    backend.capture = lambda given: bodies.extend(given) or capture(given)  # type: ignore[method-assign, func-returns-value]
    capture_member(backend, its)
    (found,) = bodies[0]()
    assert found.data_ptr() != its.weights[0].data_ptr()
    torch.testing.assert_close(found, its.weights[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"broken": lambda _: RuntimeError("operation not permitted")}, "not permitted"),
        ({"is_wrong": lambda _: True}, "other values"),
        ({"costs_s": {"generated": 1.0, "member": 1.0}}, "no faster"),
    ],
)
def test_what_cannot_be_captured_is_tried_once_and_says_why(
    changes: dict[str, object], reason: str
) -> None:
    """Its runs are left to generated code, at every address."""
    backend = CpuBackend(**changes)  # type: ignore[arg-type]
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    its = part("mlp")
    assert graphs.capture_next([its])
    assert not graphs.capture_next([its])
    assert not graphs.capture_next([Part(its.program, [w.clone() for w in its.weights], 4)])
    assert reason in graphs.refused[its.program.graph.architecture, 4]
    assert replay(graphs, its, inputs("mlp", 4)) is None
    assert (backend.open("member"), graphs.cache.stats().bytes) == (0, 0)


def test_a_graph_that_loses_rows_is_refused(graphs: Graphs) -> None:
    """Its spec says rows, its result has none."""
    its = Part(generate(small_graph(Node("sum", (Ref("input", 0),)))), [], 4)
    assert graphs.capture_next([its])
    assert "rows" in graphs.refused[its.program.graph.architecture, 4]


def test_tiers_repeat_what_is_captured_and_show_it(graphs: Graphs, backend: CpuBackend) -> None:
    """Without being asked to: whoever runs the program gets it."""
    its = part("mlp")
    version = its.program.tiers.version
    graphs.capture_next([its])
    assert version < its.program.tiers.version
    job = inputs("mlp", 3)
    before_s = backend.spent_s
    found = its.program.tiers.run(4, its.weights, job)
    assert before_s < backend.spent_s
    torch.testing.assert_close(found, its.program.run(its.weights, job))
    assert its.program.tiers.measured()[4] == {GENERATED: 10.0, GRAPH: 1.0}


GROUP = ["mlp", "tiny_cnn", "bert"]


def works(parts: list[Part], names: list[str], rows: int, seed: int = 0) -> list[Work]:
    return [
        Work(p.program, p.weights, in_order(p.program.graph, name, rows, seed), p.rows)
        for p, name in zip(parts, names, strict=True)
    ]


@pytest.mark.parametrize(
    ("costs_s", "fastest"),
    [
        ({"streams": 1.0, "children": 2.0}, STREAMS),
        ({"streams": 2.0, "children": 1.0}, CHILDREN),
        ({"streams": 4.0, "children": 4.0}, GRAPHS),
    ],
)
def test_a_group_runs_in_the_way_that_measured_fastest(
    costs_s: dict[str, float], fastest: str
) -> None:
    """The others are freed; every way gives what each member gives by itself."""
    backend = CpuBackend()
    backend.costs_s |= costs_s
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    parts = [part(name) for name in GROUP]
    assert capture_all(graphs, parts) == 4
    for rows in (4, 2):
        todo = works(parts, GROUP, rows, seed=rows)
        found = graphs.run_group(todo)
        assert found is not None
        assert fastest == found.way
        assert {GRAPHS: 3.0, **costs_s} == found.measured
        for work, outcome in zip(todo, found.outcomes, strict=True):
            expected = work.program.run(work.weights, work.inputs)
            torch.testing.assert_close(outcome, expected, rtol=1e-4, atol=1e-4)
    assert (3, fastest == STREAMS, fastest == CHILDREN) == (
        backend.open("member"),
        backend.open("streams"),
        backend.open("children"),
    )
    graphs.cache.check_integrity()


def test_the_order_of_members_does_not_matter(graphs: Graphs) -> None:
    """One graph serves all orders, and each member gets its own outputs."""
    names = ["mlp", "mlp", "tiny_cnn"]
    parts = [part("mlp", 0), part("mlp", 1), part("tiny_cnn")]
    capture_all(graphs, parts)
    assert capture_all(graphs, parts[::-1]) == 0
    todo = works(parts, names, 4)[::-1]
    found = graphs.run_group(todo)
    assert found is not None
    for work, outcome in zip(todo, found.outcomes, strict=True):
        torch.testing.assert_close(outcome, work.program.run(work.weights, work.inputs))


def test_a_new_group_of_known_members_is_assembled_without_their_capture() -> None:
    """Members are captured once, whatever groups they are in."""
    backend = CpuBackend()
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    parts = [part(name) for name in GROUP]
    assert capture_all(graphs, parts) == 4
    assert [capture_all(graphs, parts[:k] + parts[k + 1 :]) for k in range(3)] == [1, 1, 1]
    assert (backend.open("member"), backend.open("children")) == (3, 4)


def test_members_of_one_architecture_have_a_stack_of_their_own() -> None:
    """It reads each member's buffers and weights; new contents of both are seen by a replay."""
    backend = CpuBackend()
    backend.costs_s |= {"member": 0.5, "streams": 4.0, "children": 4.0}
    graphs = Graphs(backend, GraphCache(ROOM_BYTES))
    names = ["mlp", "tiny_cnn", "mlp"]
    parts = [part("mlp", 0), part("tiny_cnn"), part("mlp", 1)]
    capture_all(graphs, parts)
    key = tuple(sorted(p.key for p in parts))
    with graphs.cache.using(key) as group:
        assert {GRAPHS, STREAMS, CHILDREN, STACK} == set(group.measured)  # type: ignore[union-attr]
        assert group.name == STACK  # type: ignore[union-attr]
    for rows in (4, 3):
        parts[0].weights[0].add_(1)
        todo = works(parts, names, rows, seed=rows)
        found = graphs.run_group(todo)
        assert found is not None
        for work, outcome in zip(todo, found.outcomes, strict=True):
            expected = work.program.run(work.weights, work.inputs)
            torch.testing.assert_close(outcome, expected, rtol=1e-4, atol=1e-4)


def test_without_bindings_a_group_has_the_other_ways(graphs: Graphs, backend: CpuBackend) -> None:
    """And says what is missing."""
    backend.broken = no_bindings
    parts = [part("mlp"), part("tiny_cnn")]
    capture_all(graphs, parts)
    found = graphs.run_group(works(parts, ["mlp", "tiny_cnn"], 4))
    assert found is not None
    assert {GRAPHS, STREAMS} == set(found.measured)
    key = tuple(sorted(p.key for p in parts))
    with graphs.cache.using(key) as group:
        assert group.missing == {CHILDREN: "no bindings", STACK: "no two members stack"}  # type: ignore[union-attr]


def test_graphs_are_not_assembled_without_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the package."""
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(CaptureError, match="cuda-bindings"):
        assemble([1], torch.device("cuda", 0))


def test_a_way_that_gives_other_values_is_dropped(graphs: Graphs, backend: CpuBackend) -> None:
    """Each is compared with the members' own graphs first."""
    backend.is_wrong = lambda kind: kind == "streams"
    parts = [part("mlp"), part("tiny_cnn")]
    capture_all(graphs, parts)
    found = graphs.run_group(works(parts, ["mlp", "tiny_cnn"], 4))
    assert found is not None
    assert {GRAPHS, CHILDREN} == set(found.measured)
    assert backend.open("streams") == 0


def test_members_that_cannot_be_captured_run_beside_the_graph(
    graphs: Graphs, backend: CpuBackend
) -> None:
    """The others are one graph all the same."""
    parts = [part(name) for name in GROUP]
    graphs.refused[parts[1].program.graph.architecture, 4] = "operation not permitted"
    assert capture_all(graphs, parts) == 3
    todo = works(parts, GROUP, 4)
    found = graphs.run_group(todo)
    assert found is not None
    for work, outcome in zip(todo, found.outcomes, strict=True):
        expected = work.program.run(work.weights, work.inputs)
        torch.testing.assert_close(outcome, expected, rtol=1e-4, atol=1e-4)
    assert (backend.open("member"), backend.open("children")) == (2, 1)


def test_a_member_that_leaves_takes_its_groups_along(graphs: Graphs, backend: CpuBackend) -> None:
    """Their graphs work on its buffers; what is left runs without."""
    parts = [part("mlp"), part("tiny_cnn")]
    capture_all(graphs, parts)
    held_bytes = graphs.cache.stats().bytes
    assert held_bytes == graphs.cache.shrink(held_bytes)
    assert tuple(map(backend.open, ("member", "streams", "children"))) == (0, 0, 0)
    todo = works(parts, ["mlp", "tiny_cnn"], 4)
    assert graphs.run_group(todo) is None
    assert all(isinstance(work.run(), list) for work in todo)
    capture_all(graphs, parts)
    assert graphs.run_group(todo) is not None


def test_what_finds_no_room_is_freed_and_not_tried_again(backend: CpuBackend) -> None:
    """Neither budget is passed, and idle moments are not spent on it."""

    def charge(bytes_: int) -> None:
        raise BudgetExceeded(bytes_, 0)

    for cache in (GraphCache(10), GraphCache(ROOM_BYTES, charge)):
        graphs = Graphs(backend, cache)
        its = part("mlp")
        assert graphs.capture_next([its])
        assert not graphs.capture_next([its])
        assert (backend.open("member"), graphs.cache.stats().bytes) == (0, 0)
        assert replay(graphs, its, inputs("mlp", 4)) is None


def test_running_out_of_memory_is_no_reason_to_refuse_an_architecture(
    backend: CpuBackend, graphs: Graphs
) -> None:
    """Another function of it may find room later."""
    backend.broken = lambda _: torch.OutOfMemoryError("out of memory")
    its = part("mlp")
    assert graphs.capture_next([its])
    backend.broken = lambda _: None
    assert graphs.refused == {}
    assert graphs.capture_next([Part(its.program, [w.clone() for w in its.weights], 4)])


def _dag(parts: list[Part], graphs: Graphs) -> FusedDag:
    return build([Member(p.program, p.rows) for p in parts], graphs=graphs)


def test_a_fused_dag_repeats_its_group(graphs: Graphs) -> None:
    """Its strategy is shown, its jobs are joined into the bucket, a bad job fails alone."""
    names = ["embedding", "mlp"]
    parts = [part(name) for name in names]
    order = arrange([Member(p.program, p.rows) for p in parts])
    dag = _dag(parts, graphs)
    jobs = {
        "embedding": [inputs("embedding", 1), inputs("embedding", 2)],
        "mlp": [inputs("mlp", 3)],
    }
    calls = [Call(parts[k].weights, jobs[names[k]]) for k in order]
    before = dag.run(calls)
    assert dag.strategy == "serial"
    capture_all(graphs, [parts[k] for k in order])
    after = dag.run(calls)
    assert dag.strategy == CHILDREN
    assert {GRAPHS, STREAMS, CHILDREN} == set(dag.measured)
    torch.testing.assert_close(after, before)
    graphs.cache.shrink(ROOM_BYTES)
    torch.testing.assert_close(dag.run(calls), before)
    assert dag.strategy == "serial"


def test_a_bad_index_fails_its_own_job_alone(graphs: Graphs) -> None:
    """As without a graph, on a device that reports it."""
    parts = [part("embedding"), part("mlp")]
    order = arrange([Member(p.program, p.rows) for p in parts])
    capture_all(graphs, [parts[k] for k in order])
    bad = torch.full((1, 5), 99)
    jobs = [[[bad], inputs("embedding", 1)], [inputs("mlp", 3)]]
    results = _dag(parts, graphs).run([Call(parts[k].weights, jobs[k]) for k in order])
    found = dict(zip(order, results, strict=True))
    assert isinstance(found[0][0], Exception)
    assert isinstance(found[0][1], list)
    assert isinstance(found[1][0], list)


def test_programs_of_one_architecture_share_what_is_refused(graphs: Graphs) -> None:
    """Refusals are the architecture's, at a row bucket."""
    its = part("mlp")
    other: Program = generate(its.program.graph)
    graphs.refused[its.program.graph.architecture, 4] = "no"
    assert not graphs.capture_next([Part(other, its.weights, 4)])
    assert graphs.capture_next([Part(other, its.weights, 2)])
