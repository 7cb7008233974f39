"""A function whose postprocess tells how far it is."""

import torch


class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def load() -> torch.nn.Module:
    return Double()


def example_inputs() -> dict[str, torch.Tensor]:
    return {"x": torch.zeros(2, 3)}


def preprocess(payload):
    return {"x": [payload["numbers"]]}


def postprocess(outputs):
    total = 0.0
    for done, value in enumerate(outputs["output"][0].tolist(), 1):
        total += value
        yield {"done": done}
    yield {"total": total}
