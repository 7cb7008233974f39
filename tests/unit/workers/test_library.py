"""Artifacts as a worker reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from contract.acceptance import file_state, note_accepted
from contract.function import WEIGHTS, Function
from fusion.loaders import MappedLoader
from fusion.measurements import Measurements
from fusion.slots import SlotRequest
from tests.integration.workers.builders import linear_graph, write_artifact
from workers.library import Library


@pytest.mark.parametrize("is_eager", [False, True])
def test_weights_that_were_accepted_are_not_hashed_again(tmp_path: Path, is_eager: bool) -> None:
    """As long as nobody wrote to them since; what was never accepted is hashed."""
    digest, manifest = write_artifact(
        tmp_path, linear_graph(4), {"w": torch.eye(4)}, is_eager=is_eager
    )
    function = Function("f", 1, digest, 0.0, manifest)
    weights = tmp_path / digest / WEIGHTS

    def slot() -> SlotRequest:
        library = Library(tmp_path, "cpu", Measurements(tmp_path / "m.json", "test"))
        if is_eager:
            return library.get_eager(function, MappedLoader())
        return library.get(function).slot

    assert not slot().is_verified
    note_accepted(weights, file_state(weights))
    assert slot().is_verified
    weights.write_bytes(weights.read_bytes())
    assert not slot().is_verified
