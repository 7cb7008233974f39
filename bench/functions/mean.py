"""A well-behaved function with hooks: what its callers see beside others is measured."""


def load():
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1)

    return Mean()


def example_inputs():
    import torch

    return {"x": torch.zeros(2, 64)}


def preprocess(payload):
    return {"x": [payload["numbers"]]}


def postprocess(outputs):
    return float(outputs["output"][0])
