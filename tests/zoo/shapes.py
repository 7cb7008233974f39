"""Dense models with several inputs and outputs, and one that writes in place."""

import torch
from torch import Tensor, nn


class Mlp(nn.Sequential):
    """Linear layers; `forward` is nn.Sequential's, whose parameter is named `input`."""

    def __init__(self, inputs: int = 16, hidden: int = 32, outputs: int = 4) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, outputs),
        )


class SeveralInputs(nn.Module):
    """Float, matrix and integer inputs; rows enter a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.table = nn.Embedding(10, 4)

    def forward(self, a: Tensor, b: Tensor, k: Tensor) -> Tensor:
        rows = a.shape[0]
        mixed = self.mix(b.reshape(rows * 3, 4)).view(rows, 3, 4)
        return (mixed * a[:, None]).sum(1) + self.table(k % 10)


class TupleOutput(nn.Module):
    """Several results of one operator, one of them an output as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, c = self.head(x).chunk(3, dim=-1)
        values, indices = torch.max(x, dim=1)
        return a * torch.sigmoid(b) + c, values, indices


class DictOutput(nn.Module):
    """Named outputs; a constant mask with infinities."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 6)
        self.register_buffer("order", torch.arange(6), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.head(x)
        causal = self.order[None, :] <= self.order[:, None]
        scores = (hidden[:, :, None] * x[:, None, :]).masked_fill(~causal, float("-inf"))
        return {"scores": scores.softmax(-1), "hidden": hidden.to(torch.float64)}


class InPlace(nn.Module):
    """Writes to what it computed, through a view too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv(x)))
        y += 1
        z = torch.zeros_like(y)
        z[:, 1] = y[:, 0]
        return (y + z).mean((2, 3))
