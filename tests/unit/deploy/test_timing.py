"""Runs are timed at deploy."""

from __future__ import annotations

import torch
from torch import nn

from deploy.model import Model
from deploy.timing import MOST_ROWS, time_runs
from fusion.export import export


def timed(max_batch: int) -> dict[int, float]:
    """Of a small net."""
    module, inputs = nn.Linear(64, 64).eval(), {"x": torch.ones(2, 64)}
    exported = export(module, inputs, max_batch)
    return time_runs(Model(module, inputs, 0), exported, max_batch)


def test_one_row_and_a_few_are_timed() -> None:
    """Enough for a line, however many rows may be joined."""
    found = timed(1024)
    assert found.keys() == {1, MOST_ROWS}
    assert all(ms > 0 for ms in found.values())


def test_no_more_rows_are_run_than_may_be() -> None:
    """A function for single rows has a single time."""
    assert timed(1).keys() == {1}
