"""The agent learns what is best where that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.scheduling.policies.bcedge import weights
from workers.scheduling.policies.bcedge.agent import Agent, Learning
from workers.scheduling.policies.bcedge.grid import ACTIONS
from workers.scheduling.policies.bcedge.interference import INPUTS, Predictor
from workers.scheduling.policies.bcedge.networks import Forward, Networks, mlp
from workers.scheduling.policies.bcedge.replay import Replay, Transition
from workers.scheduling.policies.bcedge.state import FEATURES

PLACES = np.eye(3, dtype=np.float32)
EITHER = np.array([True, True])
LEFT, RIGHT = 0, 1


def _corridor(place: int, action: int) -> tuple[int, float]:
    """Three places in a row: left of the first pays 0.2 at once, right of the last pays 1."""
    if action == LEFT:
        return 0, 0.2 if place == 0 else 0.0
    return (0, 1.0) if place == 2 else (place + 1, 0.0)


def test_it_learns_to_pass_by_small_rewards_for_a_large_one() -> None:
    """Right everywhere: 1 every third step is worth more than 0.2 at each one."""
    torch.manual_seed(0)
    learning = Learning(rate=1e-2, soft_update=0.1, entropy=0.1, batch=32)
    agent = Agent(Networks(3, 2), 2, learning=learning)
    place = 0
    for step in range(300):
        [action] = agent.act(PLACES[[place]], EITHER[None], explores=True)
        after, reward = _corridor(place, action)
        agent.replay.add(Transition(PLACES[place], EITHER, action, reward, PLACES[after], EITHER))
        place = after
        if step >= 150:
            agent.learn()
    assert agent.act(PLACES, np.tile(EITHER, (3, 1)), explores=False) == [RIGHT] * 3


def test_the_temperature_keeps_the_entropy_that_is_aimed_at() -> None:
    """Where all actions are worth the same, it falls until the policy may be less random."""
    torch.manual_seed(0)
    agent = Agent(Networks(1, 4), 4, learning=Learning(rate=1e-2, entropy=0.5))
    nothing, every = np.zeros(1, np.float32), np.ones(4, np.bool_)
    for action in range(4):
        agent.replay.add(Transition(nothing, every, action, 0.0, nothing, every, 0.0))
    before = agent.networks.log_temperature.item()
    for _ in range(50):
        agent.learn()
    assert agent.networks.log_temperature.item() < before


def test_what_is_not_allowed_is_never_chosen() -> None:
    """Neither drawn nor the likeliest."""
    agent = Agent(Networks(3, 4), 4)
    allowed = np.array([[False, True, False, True]])
    for explores in (True, False):
        drawn = {agent.act(PLACES[:1], allowed, explores)[0] for _ in range(50)}
        assert drawn <= {1, 3}


def test_a_forward_is_what_torch_computes_and_changes_with_the_network() -> None:
    """It reads the same memory."""
    net = mlp(3, 5, 5, 2)
    forward, values = Forward(net), torch.randn(4, 3)
    for _ in range(2):
        with torch.no_grad():
            np.testing.assert_allclose(forward(values.numpy()), net(values).numpy(), atol=1e-5)
            net[0].weight.add_(1.0)


def test_targets_follow_their_critics_slowly() -> None:
    """A soft update goes a part of the way."""
    agent = Agent(Networks(3, 2), 2, learning=Learning(soft_update=0.25))
    agent.replay.add(Transition(PLACES[0], EITHER, 0, 1.0, PLACES[1], EITHER))
    before = [t.clone() for t in agent.networks.targets.parameters()]
    agent.learn()
    critics = agent.networks.critics.parameters()
    for old, new, critic in zip(before, agent.networks.targets.parameters(), critics, strict=True):
        torch.testing.assert_close(new, old + 0.25 * (critic.detach() - old))


@given(st.integers(1, 8), st.integers(1, 30))
def test_the_replay_holds_the_newest(capacity: int, added: int) -> None:
    """And no more than its capacity."""
    replay = Replay(capacity, 1, 1)
    one = np.ones(1, np.bool_)
    for number in range(added):
        state = np.array([number], np.float32)
        replay.add(Transition(state, one, 0, float(number), state, one))
    assert len(replay) == min(added, capacity)
    assert sorted(replay.states()[:, 0].tolist()) == [*range(max(0, added - capacity), added)]
    batch = replay.sample(16, torch.Generator().manual_seed(0))
    assert set(batch.reward.tolist()) <= set(range(max(0, added - capacity), added))
    assert batch.reward.tolist() == batch.state[:, 0].tolist()


def test_an_empty_replay_says_so() -> None:
    """Rather than give what it was made of."""
    with pytest.raises(ValueError, match="got none"):
        Replay(4, 1, 1).sample(1, torch.Generator())


def test_the_predictor_learns_what_slows_down() -> None:
    """Groups beside others take longer: here one more time for each."""
    predictor, random = Predictor(), np.random.default_rng(0)
    for _ in range(512):
        inputs = random.uniform(0, 1, INPUTS).astype(np.float32)
        inputs[2] = random.integers(0, 4)
        predictor.add(inputs, 1.0 + inputs[2])
    for _ in range(300):
        predictor.learn()
    alone, crowded = np.full((2, INPUTS), 0.5, np.float32)
    alone[2], crowded[2] = 0, 3
    assert predictor.slowdown(alone) == pytest.approx(1.0, rel=0.25)
    assert predictor.slowdown(crowded) == pytest.approx(4.0, rel=0.25)


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    """The same actions, the same slowdowns."""
    networks, predictor = Networks(len(FEATURES), len(ACTIONS)), Predictor()
    networks.mean.uniform_()
    path = tmp_path / "agent.safetensors"
    path.write_bytes(weights.encode(networks, predictor, {"seed": "7"}))
    read, its_predictor = weights.read(path)
    for name, tensor in networks.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], tensor, rtol=0, atol=0)
    inputs = np.random.default_rng(0).uniform(size=(5, INPUTS)).astype(np.float32)
    np.testing.assert_array_equal(its_predictor.slowdown(inputs), predictor.slowdown(inputs))


def test_weights_for_other_actions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of actions that changed must not be played by an agent of before."""
    path = tmp_path / "agent.safetensors"
    with monkeypatch.context() as patched:
        patched.setitem(weights._MEANT_FOR, "batches", "1 2")
        data = weights.encode(Networks(len(FEATURES), len(ACTIONS)), Predictor(), {})
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"batches: expected '1 2 4 .*', got '1 2'"):
        weights.read(path)


def test_the_shipped_agent_is_small_and_says_where_it_comes_from() -> None:
    """Less than a megabyte; the seed and the length of its training."""
    assert weights.SHIPPED.stat().st_size < 1_000_000
    about = weights.about(weights.SHIPPED)
    assert {"seed", "groups"} <= about.keys()
