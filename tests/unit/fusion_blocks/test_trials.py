"""A plan by estimates is replaced by one of measured times, and the faster of both stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusion.blocks import body as bodies
from fusion.blocks.body import BlockedGraph, in_blocks, replanned
from fusion.blocks.loading import BlocksLoader
from fusion.blocks.observed import Measured, Observed, ReadMeter, measured
from fusion.blocks.times import Rates
from fusion.blocks.trials import RUNS, Phase, Trials
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.measurements import Measurements
from fusion.weights import WeightsIndex, write_weights

WIDTH, LAYERS = 256, 24
LAYER_BYTES = WIDTH * WIDTH * 4
BUDGET = 12 * LAYER_BYTES + 2**18
# as if computing took next to nothing, so that as little as possible is read
RATES = Rates(1e15, 1e15)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is not split."""
    monkeypatch.setattr(bodies, "LEAST_PIECE_BYTES", LAYER_BYTES)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path, WeightsIndex]:
    """Layers of 256 KiB one after another."""
    spec = TensorSpec("x", "float32", (None, WIDTH))
    weights = tuple(WeightSpec(f"w{k}", "float32", (WIDTH, WIDTH)) for k in range(LAYERS))
    nodes = [Node("linear", (Ref("input", 0), Ref("weight", 0)))]
    nodes += [Node("linear", (Ref("node", k - 1), Ref("weight", k))) for k in range(1, LAYERS)]
    out = Output(spec._replace(name="y"), Ref("node", LAYERS - 1))
    path = tmp_path_factory.mktemp("deep") / "weights.safetensors"
    index = write_weights(path, {w.name: torch.zeros(w.shape) for w in weights})
    return Graph((spec,), weights, tuple(nodes), (out,)), path, index


def planned(
    deep: tuple[Graph, Path, WeightsIndex], known: dict[str, Measured] | None = None
) -> BlockedGraph:
    """Within half of the bytes."""
    graph, _, index = deep
    return in_blocks(graph, index, BUDGET, RATES, 1e9, known=known)


def ran(body: BlockedGraph, run_s: float, step_s: float = 0.010, read_s: float = 1.0) -> Observed:
    """A run that had to read all that its plan reads."""
    return Observed(run_s, (step_s,) * len(body.steps), body.plan.read_bytes, read_s)


def noted(trials: Trials, run: Observed) -> list[bool]:
    """What each of as many runs as a decision takes says of it."""
    return [trials.note(trials.body, run) for _ in range(RUNS + 1)]


def test_a_plan_of_measured_times_is_tried_and_kept_where_it_is_faster(
    deep: tuple[Graph, Path, WeightsIndex],
) -> None:
    """Slow reading is found; then nothing is decided any more."""
    trials = Trials(planned(deep))
    first = trials.body
    run = ran(first, 1.2, read_s=first.plan.read_bytes / LAYER_BYTES * 0.02)
    assert noted(trials, run) == [False] * RUNS + [True]
    other = trials.decide()
    if other is None:
        pytest.fail("computing that takes long is a reason to plan anew")
    assert other.is_measured
    assert trials.phase is Phase.TRIED
    assert other.bytes <= BUDGET
    assert noted(trials, ran(other, 1.0))[-1]
    assert trials.decide() is None
    assert trials.phase is Phase.SETTLED
    assert trials.learned is not None
    assert trials.learned.is_better
    assert not any(noted(trials, ran(other, 1.0)))


def test_the_plan_before_comes_back_where_it_was_faster(
    deep: tuple[Graph, Path, WeightsIndex],
) -> None:
    """And the measured times are not planned by again."""
    trials = Trials(planned(deep))
    first = trials.body
    noted(trials, ran(first, 1.2, read_s=first.plan.read_bytes / LAYER_BYTES * 0.02))
    other = trials.decide()
    assert other is not None
    noted(trials, ran(other, 1.5))
    assert trials.decide() is first
    assert trials.learned is not None
    again = planned(deep, {first.cut_key: trials.learned})
    assert (again.plan, again.is_measured, again.is_settled) == (first.plan, False, True)


def test_runs_from_the_page_cache_and_of_other_plans_decide_nothing(
    deep: tuple[Graph, Path, WeightsIndex],
) -> None:
    """They say nothing of reading."""
    trials = Trials(planned(deep))
    assert not any(noted(trials, ran(trials.body, 1.0)._replace(read_bytes=0)))
    other = replanned(trials.body, measured([ran(trials.body, 1.0)]))
    assert not any(trials.note(other, ran(other, 1.0)) for _ in range(RUNS + 1))


def test_measured_times_are_planned_by_after_a_restart(
    deep: tuple[Graph, Path, WeightsIndex], tmp_path: Path
) -> None:
    """Kept with the architecture, through a file; a file of before has none."""
    body = planned(deep)
    times = measured([ran(body, 1.0, 0.001 * k) for k in (1, 2, 9)])
    assert times.step_s == (0.002,) * len(body.steps)
    kept = Measurements(tmp_path / "one.json", "a CPU")
    kept.note_blocks("arch", body.cut_key, times)
    kept.save()
    known = Measurements(tmp_path / "one.json", "a CPU").blocks("arch")
    assert known == {body.cut_key: times}
    again = planned(deep, known)
    assert again.is_measured
    assert again.is_settled
    assert again.plan == replanned(body, times).plan
    assert Measurements(tmp_path / "one.json", "a CPU").blocks("other") == {}


def test_a_run_says_what_its_steps_took(deep: tuple[Graph, Path, WeightsIndex]) -> None:
    """One time for each step, and no more than the run."""
    body, (_, path, index) = planned(deep), deep
    weights = BlocksLoader([body]).load(path, index, True)
    assert weights.latest(0) is None
    weights.run(0, [torch.zeros(1, WIDTH)])
    found = weights.latest(0)
    assert found is not None
    assert found[0] is body
    assert len(found[1].step_s) == len(body.steps)
    assert 0 < sum(found[1].step_s) <= found[1].run_s
    assert weights.close()


def test_reads_side_by_side_count_once_in_time() -> None:
    """All of their bytes do."""
    meter = ReadMeter()
    with meter.reading(3), meter.reading(4):
        pass
    bytes_, seconds = meter.take()
    assert bytes_ == 7
    assert 0 < seconds < 1
    assert meter.take() == (0, 0.0)
