"""A fused DAG gives each job what its model alone would give, whatever the strategy."""

from dataclasses import replace

import pytest
import torch

from fusion.codegen import generate
from fusion.dag import Call, FusedDag, build
from fusion.errors import IntegrityError, MemberError
from fusion.export import export
from fusion.ir import Node, Ref
from fusion.members import Member, arrange, dag_key
from fusion.probes import probe_inputs
from fusion.strategies.choice import MARGIN, TRIAL_RUNS, WARM_RUNS, Choice
from fusion.strategies.lanes import Lanes
from fusion.tiers import Tiers
from tests.unit.fusion import models
from tests.unit.fusion.shared import example, exported, small_graph
from tests.zoo import ZOO


@pytest.fixture(scope="module")
def lanes():
    with Lanes(2) as running:
        yield running


def _member(name: str, seed: int = 0, rows: int = 8) -> Member:
    return Member(generate(exported(name, seed).graph), rows)


def _weights(name: str, seed: int = 0) -> list[torch.Tensor]:
    return list(exported(name, seed).weights.values())


def _flat(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return list(result.values() if isinstance(result, dict) else result)


def _only(dag: FusedDag, name: str) -> FusedDag:
    """The same DAG with one strategy."""
    return FusedDag(dag.members, dag.key, dag.bytes, dag.build_s, dag.strategies, Choice([name]))


GROUPS = {
    "one function": [("mlp", 0)],
    "one architecture": [("tiny_cnn", 0), ("tiny_cnn", 1), ("tiny_cnn", 2)],
    "many architectures": [("mlp", 0), ("bert", 0), ("lstm", 0), ("unet", 0), ("dict_output", 0)],
    "every model": [(name, 0) for name in ZOO],
}


@pytest.mark.parametrize("strategy", ["serial", "stack", "branches", "chosen"])
@pytest.mark.parametrize("group", GROUPS)
def test_fused_equals_separate(group, strategy, lanes):
    """Several jobs of several rows per function, against the models in eager mode."""
    who = GROUPS[group]
    members = [_member(*w) for w in who]
    order = arrange(members)
    dag = build(members, lanes)
    if strategy != "chosen":
        if strategy not in dag.strategies:
            pytest.skip("there is nothing that it could run")
        dag = _only(dag, strategy)
    jobs = [[probe_inputs(example(*who[k]).inputs, n, seed=n) for n in (1, 2)] for k in order]
    calls = [Call(_weights(*who[k]), j) for k, j in zip(order, jobs, strict=True)]
    for _ in range(2):
        for k, per_job, results in zip(order, jobs, dag.run(calls), strict=True):
            module = example(*who[k]).module
            names = [spec.name for spec in members[k].program.graph.inputs]
            for job, actual in zip(per_job, results, strict=True):
                with torch.inference_mode():
                    expected = _flat(module(*[job[name] for name in names]))
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_faster_strategy_is_kept_and_its_numbers_shown(lanes):
    """Trials alternate over the first runs."""
    dag = build([_member("mlp"), _member("mlp", 1)], lanes)
    calls = [Call(_weights("mlp", s), [example("mlp").inputs]) for s in (0, 1)]
    assert dag.lanes == []
    while not dag.choice.is_settled:
        dag.run(calls)
    assert {"serial", "stack", "branches"} == set(dag.measured)
    assert sorted(dag.lanes) == [[0], [1]]
    fastest = min(dag.measured, key=dag.measured.__getitem__)
    is_faster = dag.measured[fastest] < MARGIN * dag.measured["serial"]
    assert (fastest if is_faster else "serial") == dag.strategy


@pytest.mark.parametrize("strategy", ["serial", "stack", "branches"])
def test_only_the_job_at_fault_fails(strategy, lanes):
    """An id outside the vocabulary stops neither the other job of its function nor the others."""
    members = [_member("embedding"), _member("mlp")]
    who = [("embedding", "mlp")[k] for k in arrange(members)]
    dag = _only(build(members, lanes), strategy)
    good, bad = torch.zeros(1, 5, dtype=torch.int64), torch.full((1, 5), 99)
    jobs = {"embedding": [{"ids": good}, {"ids": bad}], "mlp": [example("mlp").inputs]}
    results = dag.run([Call(_weights(name), jobs[name]) for name in who])
    embedding, mlp = results[who.index("embedding")], results[who.index("mlp")]
    assert isinstance(embedding[0], list)
    assert isinstance(mlp[0], list)
    error = embedding[1]
    assert isinstance(error, MemberError)
    assert (who.index("embedding"), 1) == (error.member, error.job)
    assert isinstance(error.__cause__, IndexError)


def test_a_member_that_loses_rows_fails_alone():
    """A graph may be hostile: its spec says rows, its result has none."""
    liar = Member(generate(small_graph(Node("sum", (Ref("input", 0),)))), 8)
    members = [liar, _member("mlp")]
    order = arrange(members)
    calls = [Call([], [[torch.ones(2, 4)]]), Call(_weights("mlp"), [example("mlp").inputs])]
    results = build(members).run([calls[k] for k in order])
    error, outputs = results[order.index(0)][0], results[order.index(1)][0]
    assert isinstance(error, MemberError)
    assert isinstance(error.__cause__, IntegrityError)
    assert isinstance(outputs, list)


def test_jobs_whose_rows_depend_on_each_other_run_apart():
    """Each job gets what it would get alone."""
    made = export(models.Centres(), {"x": torch.randn(2, 4)}, 8)
    dag = build([Member(generate(made.graph), 8)])
    jobs = [[torch.randn(n, 4)] for n in (1, 2, 3)]
    for (x,), (y,) in zip(jobs, dag.run([Call([], jobs)])[0], strict=True):
        torch.testing.assert_close(y, x - x.mean(0))


def _static(kind, rows, max_rows=4):
    """Its graph for this many rows."""
    made = export(kind(), {"x": torch.randn(2, 4)}, max_rows)
    return next(graph for graph in made.graphs if graph.fixed_rows == rows)


def test_jobs_fill_a_static_graph_up():
    """Together or alone, with rows that nobody sees."""
    dag = build([Member(generate(_static(models.Pairs, 4)), 4)])
    for rows in ([1], [3], [4], [1, 2], [2, 2]):
        jobs = [[torch.randn(n, 4)] for n in rows]
        for _ in range(14):  # joined, apart, and whichever is faster
            results = dag.run([Call([], jobs)])[0]
            assert all(torch.equal(x, y) for (x,), (y,) in zip(jobs, results, strict=True))


def test_a_static_graph_takes_no_more_rows_than_it_has():
    """Jobs that are too many together run apart; one that is too large fails alone."""
    dag = build([Member(generate(_static(models.Pairs, 2)), 2)])
    jobs = [[torch.randn(n, 4)] for n in (2, 1, 3)]
    *fitting, large = dag.run([Call([], jobs)])[0]
    assert all(torch.equal(x, y) for (x,), (y,) in zip(jobs, fitting, strict=False))
    assert isinstance(large.__cause__, IntegrityError)


def test_rows_that_depend_on_each_other_are_not_filled_up():
    """Each job runs alone, with exactly the rows of the graph."""
    dag = build([Member(generate(_static(models.Swaps, 2)), 2)])
    jobs = [[torch.randn(n, 4)] for n in (2, 1, 2)]
    first, short, last = dag.run([Call([], jobs)])[0]
    assert torch.equal(first[0], jobs[0][0].flip(0))
    assert isinstance(short.__cause__, IntegrityError)
    assert torch.equal(last[0], jobs[2][0].flip(0))


def test_a_dag_holds_no_weights():
    """The next run may bring other weights of the same architecture, and evicted ones are free."""
    dag = build([_member("mlp"), _member("mlp", 1)])
    x = example("mlp").inputs
    first = dag.run([Call(_weights("mlp", s), [x]) for s in (0, 1)])
    swapped = dag.run([Call(_weights("mlp", s), [x]) for s in (1, 0)])
    assert torch.equal(first[0][0][0], swapped[1][0][0])
    assert torch.equal(first[1][0][0], swapped[0][0][0])


def test_the_key_is_what_runs_not_who_asks():
    """Order does not matter; rows, architectures and shared weights do."""
    mlp, cnn = _member("mlp"), _member("tiny_cnn")
    keys = tuple(range(len(mlp.program.graph.weights)))
    assert dag_key([mlp, cnn]) == dag_key([cnn, mlp])
    assert dag_key([mlp, mlp]) == dag_key([_member("mlp", 1), mlp])
    assert dag_key([mlp]) != dag_key([mlp._replace(rows=4)])
    shared = mlp._replace(weight_keys=keys)
    assert dag_key([mlp, mlp]) != dag_key([shared, shared])
    assert len(keys) == len(dag_key([shared, shared]).shared)


def test_equal_bytes_of_another_shape_are_not_shared():
    """Weights of equal content are one tensor only where their shapes agree too."""
    mlp = _member("mlp")
    shapes = [spec.shape for spec in mlp.program.graph.weights]
    alike = mlp._replace(weight_keys=("zeros",) * len(shapes))
    first = [shapes.index(shape) for shape in shapes]
    expected = tuple((0, k, 0, i) for i, k in enumerate(first) if k != i)
    assert expected == dag_key([alike]).shared != ()


def test_a_dag_says_what_it_costs():
    """Bytes grow with its members and with merged code, which only a shared prefix needs."""
    one, two = build([_member("mlp")]), build([_member("mlp"), _member("resnet18")])
    assert 0 < one.bytes < two.bytes < 10_000
    assert 0 < two.build_s < 5
    keys = tuple(exported("resnet18").weights)
    same = [Member(generate(exported("resnet18").graph), 1, keys)] * 2
    assert build(same).bytes > 2 * two.bytes


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([], "0 calls for 1 members"),
        ([Call([], [])], "weights and at least one job, got 0 and 0"),
        ([Call([torch.ones(1)] * 6, [{"wrong": torch.ones(1, 16)}])], "its graph takes"),
        ([Call([torch.ones(1)] * 6, [[]])], "a job has 0 inputs"),
    ],
)
def test_calls_that_do_not_fit_the_members_are_refused(calls, said):
    """They are a mistake of the caller, not of a function."""
    with pytest.raises(IntegrityError, match=said):
        build([_member("mlp")]).run(calls)


@pytest.mark.parametrize(("power", "expected"), [(2, [1, 1, 1, 1]), (0, [4])])
def test_jobs_of_one_function_are_joined_where_that_is_faster(power, expected):
    """Four rows at once that take 16 times as long as one run one by one, and are not mixed up."""
    graph = small_graph(Node("relu", (Ref("input", 0),)))
    rows = []

    def run(_, inputs):
        rows.append(len(inputs[0]))
        if inputs[0].isnan().any():
            raise ValueError("no number")
        for _ in range(5_000 * len(inputs[0]) ** power):
            pass
        return [inputs[0].relu()]

    program = replace(generate(graph), tiers=Tiers(run))
    fused = build([Member(program, 4)])
    jobs = [[torch.full((1, 4), float(k))] for k in range(4)]
    trials = 2 * (WARM_RUNS + TRIAL_RUNS)
    for _ in range(trials + 1):
        rows.clear()
        (results,) = fused.run([Call([], jobs)])
        assert [result[0][0, 0].item() for result in results] == [0.0, 1.0, 2.0, 3.0]
    assert rows == expected
    # what is known does not keep a job from failing alone
    (results,) = fused.run([Call([], [*jobs[:3], [torch.full((1, 4), float("nan"))]])])
    assert [result[0][0, 0].item() for result in results[:3]] == [0.0, 1.0, 2.0]
    assert isinstance(results[3], MemberError)
