"""A function whose hook misbehaves as its payload says."""

import contextlib
import os
import time


def load():
    import torch

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    return Same()


def example_inputs():
    import torch

    return {"x": torch.zeros(2, 4)}


def spin():
    while True:
        pass


def eat():
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


def bomb():
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def leave():
    """Children in a session of their own that go on when the call is over."""
    for _ in range(4):
        if not os.fork():
            os.setsid()
            spin()


def flood():
    line = "x" * 4000
    until_s = time.monotonic() + 2
    while time.monotonic() < until_s:
        print(line)


def fail():
    raise ValueError("the payload asked for it")


def leave_at_once():
    os._exit(7)


def large():
    return {"x": [[0.0] * 4] * 10_000_000}


WAYS = {
    "loops": spin,
    "sleeps": lambda: time.sleep(60),
    "eats memory": eat,
    "forks": bomb,
    "leaves children": leave,
    "floods stdout": flood,
    "raises": fail,
    "calls os._exit": leave_at_once,
    "returns too much": large,
}


def preprocess(payload):
    return WAYS[payload["way"]]() or {"x": [[0.0, 0.0, 0.0, 0.0]]}
