"""Sequence models: recurrent ones, transformer encoders, embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Lstm(nn.Module):
    """Two layers, both directions; the last step is classified."""

    def __init__(self, inputs: int = 8, hidden: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


class Gru(nn.Module):
    """One layer; every step is returned."""

    def __init__(self, inputs: int = 8, hidden: int = 8) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def encoder(width: int = 16, layers: int = 2) -> nn.Module:
    """torch's own transformer encoder."""
    layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Bert(nn.Module):
    """Token and position embeddings, masked attention, a pooled output."""

    def __init__(
        self, vocabulary: int = 50, width: int = 16, heads: int = 2, layers: int = 2
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(64, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(BertLayer(width, heads) for _ in range(layers))

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.tokens(ids) + self.positions(positions))  # [rows, length, width]
        bias = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e9
        for layer in self.layers:
            x = layer(x, bias)
        weight = mask[..., None].to(x.dtype)
        return {"tokens": x, "pooled": (x * weight).sum(1) / weight.sum(1).clamp(min=1)}


class BertLayer(nn.Module):
    """Attention written by hand, then two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        rows, length, width = x.shape
        shape = (rows, length, self.heads, width // self.heads)
        q, k, v = (f(x).view(shape).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5 + bias
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, length, width)
        x = self.norm1(x + self.o(mixed))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Bag(nn.Module):
    """The mean of some embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids).mean(1)
