"""The functions under fault: a plain one for the load, and one that stops where a test says."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.client import Client
from deploy.options import Options
from deploy.package import package
from tests.e2e.faults.waiting import eventually

PLAIN = """
import torch


class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2


def load():
    return Double()


def example_inputs():
    return {"x": torch.zeros(2, 1)}
"""

# imports torch where the model is made only: its handler hosts, which run the hooks, start at once
GATED = """
import os
import time
from pathlib import Path

GATE = Path(GATE_FOLDER)
WIDTH, LAYERS = 768, 64


def load():
    import torch

    class LongDouble(torch.nn.Module):
        # twice its input, by way of 0.3 s of arithmetic where it has 128 rows
        def __init__(self):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.full((WIDTH, WIDTH), 1 / WIDTH))

        def forward(self, x):
            same = x
            for _ in range(LAYERS):
                same = same @ self.mean
            return (x + same).mean(-1)

    return LongDouble()


def example_inputs():
    import torch

    return {"x": torch.zeros(2, WIDTH)}


def preprocess(payload):
    number = payload["number"]
    pass_gate("preprocess", number)
    return {"x": [[float(number)] * WIDTH] * payload.get("rows", 1)}


def postprocess(outputs):
    doubled = round(float(outputs["output"][0]))
    pass_gate("postprocess", doubled // 2)
    return {"doubled": doubled}


def pass_gate(stage, number):
    # hosts count their processes each for itself
    name = f"{stage}-{number}-{os.urandom(4).hex()}"
    (GATE / name).touch()
    hold = GATE / f"hold-{stage}-{number}"
    held = GATE / f"held-{name}"
    try:
        # whoever comes first is held, a second attempt is not
        hold.rename(held)
    except FileNotFoundError:
        return
    while held.exists():
        time.sleep(0.005)
"""


class Gate:
    """Where the hooks of the function `gated` leave their traces and can be held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def hold(self, stage: str, number: int) -> None:
        """Hold the first attempt that comes to this stage with this number."""
        (self.folder / f"hold-{stage}-{number}").touch()

    def release(self, stage: str, number: int) -> None:
        """Let it go on."""
        for held in self.folder.glob(f"held-{stage}-{number}-*"):
            held.unlink()

    def attempts(self, stage: str, number: int) -> int:
        """How many attempts came to this stage."""
        return len(list(self.folder.glob(f"{stage}-{number}-*")))

    def wait(self, stage: str, number: int) -> None:
        """Wait until an attempt comes to this stage."""
        eventually(lambda: self.attempts(stage, number), f"{stage} of {number}", look_s=0.002)


def deploy_source(url: str, folder: Path, name: str, source: str, max_batch: int = 32) -> str:
    """Deploy a handler given as text; its digest."""
    home = folder / name
    home.mkdir()
    (home / "handler.py").write_text(source)
    made = package(home, Options(name=name, max_batch=max_batch), home, lambda _step: None)
    with Client(url) as client:
        client.deploy(name, made.tar, made.digest)
    return made.digest


def deploy_gated(url: str, folder: Path) -> Gate:
    """Deploy `gated`; its gate."""
    gate = Gate(folder / "gate")
    # hosts may run as anybody
    os.chmod(gate.folder, 0o777)
    deploy_source(
        url, folder, "gated", GATED.replace("GATE_FOLDER", repr(str(gate.folder))), max_batch=128
    )
    return gate
