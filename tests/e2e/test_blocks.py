"""A function of four times the budget, from its source to its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench._larger import (
    BESIDE_BYTES,
    NAME,
    Size,
    call,
    eager,
    handler_of,
    high_water_bytes,
    worker_of,
)
from bench._platform import running_platform

SIZE = Size(2048, 8)  # 134 MB


@pytest.mark.long  # tests/integration/workers/test_blocks.py has a small one
def test_a_function_of_four_times_the_budget_answers_within_it(tmp_path: Path) -> None:
    """Deploy and describe show the plan; the worker grows by its budget at most."""
    source = handler_of(SIZE)
    path = tmp_path / f"{NAME}.py"
    path.write_text(source)
    x = np.random.default_rng(0).standard_normal((2, SIZE.width)).astype(np.float32)
    options = ("--budget", str(SIZE.budget_bytes))
    # what a process takes when it first runs anything is not to be counted
    with running_platform(*options, FUSEBOX_WARM_UP_S="60") as platform:
        deployed = platform.fusebox("deploy", str(path), "--max-batch", "2")
        assert deployed.returncode == 0, deployed.stderr
        assert "block memory" in deployed.stdout
        worker = Path(f"/proc/{worker_of(platform.url)['pid']}")
        platform.wait_ready()
        (worker / "clear_refs").write_text("5")
        before_bytes = high_water_bytes(worker)
        for rows in (1, 2, 1):
            np.testing.assert_allclose(
                call(platform.url, x[:rows]), eager(source, x[:rows]), rtol=1e-4, atol=1e-5
            )
        growth_bytes = high_water_bytes(worker) - before_bytes
        assert growth_bytes <= SIZE.budget_bytes + BESIDE_BYTES
        assert "block memory" in platform.fusebox("describe", NAME).stdout
