"""A function with hooks, some of which misbehave when asked to."""

import os
import pathlib
import socket
import sys

import torch


class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def load() -> torch.nn.Module:
    return Double()


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, 3)}


def reached(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as it:
        tcp = "closed" if it.connect_ex((host, int(port))) else "open"
    tmp = pathlib.Path("/tmp")
    around = [*tmp.rglob("store.sock"), *tmp.rglob("artifacts/*/manifest.json")]
    settings = [name for name in os.environ if name.startswith(("FUSEBOX", "REDIS"))]
    return f"tcp {tcp}, data {around or 'hidden'}, {settings or 'no'} settings"


def preprocess(payload):
    match payload.get("do"):
        case "raise":
            raise ValueError("the payload asked for it")
        case "exit":
            os._exit(7)
        case "loop":
            while True:
                pass
        case "eat":
            bytearray(2**50)
        case "reach":
            raise RuntimeError(reached(payload["url"]))
        case "print":
            print("seen in the log")
            print("seen as an error", file=sys.stderr)
        case "wrong":
            return {"y": [[1.0, 2.0, 3.0]]}
    return {"x": [payload["numbers"]]}


def postprocess(outputs):
    return {"doubled": outputs["output"][0].tolist()}
