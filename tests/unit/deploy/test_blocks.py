"""Functions larger than the budget: what deploy and describe say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.unit.deploy.conftest import Fusebox
from tests.unit.deploy.fake_gateway import FUNCTION, FakeGateway
from tests.unit.deploy.test_package import LINEAR


def test_describe_shows_the_blocks(fusebox: Fusebox, gateway: FakeGateway) -> None:
    """How many, what they share and what stays; without a plan nothing is said."""
    sizes = {"block_bytes": [4_000_000, 6_000_000], "ring_bytes": 9_000_000, "resident_bytes": 500}
    execution = FUNCTION["execution"] | {"blocks": sizes | {"is_measured": True}}
    gateway.on("GET", "/v1/functions/echo", (200, FUNCTION | {"execution": execution}))
    shown = fusebox("describe", "echo").stdout
    assert "2 of 4.0 MB to 6.0 MB; 10.0 MB read in each run" in shown
    assert "ring 9.0 MB, resident part 500 B" in shown
    assert "measured" in shown
    gateway.on("GET", "/v1/functions/echo", (200, FUNCTION))
    assert "ring" not in fusebox("describe", "echo").stdout
    gateway.on("GET", "/v1/functions/echo", (200, FUNCTION | {"blocks_budget_bytes": 10**6}))
    assert "within 1.0 MB" in fusebox("describe", "echo").stdout


def test_deploy_shows_the_plan_where_no_worker_holds_the_function(
    fusebox: Fusebox, gateway: FakeGateway, write: Callable[[str, str], Path]
) -> None:
    """Planned for the budget that the gateway names."""
    path, place = str(write("f.py", LINEAR)), "/v1/functions/f"
    answer = FUNCTION | {"version": 7}
    gateway.on("PUT", place, (201, answer | {"blocks_budget_bytes": 10**6}))
    assert "block memory" in fusebox("deploy", path).stdout
    gateway.on("PUT", place, (201, answer))
    assert "block memory" not in fusebox("deploy", path).stdout
