"""Modules that export refuses, or takes with a limit; errors name lines of this file."""

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Control flow on values."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # line: branch
            return x
        return -x


class Loops(nn.Module):
    """A loop whose length is a value."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x[0, 0].item())):  # line: loop
            x = x + 1
        return x


class Totals(nn.Module):
    """Control flow on the sum of all ids."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 20 else x


class Chooses(nn.Module):
    """Control flow on the values of each row by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.a(row) if row.sum() > 0 else self.b(row) for row in x])


class Widens(nn.Module):
    """As many columns as a value says."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].expand(-1, 1 + int(x.abs().sum() * 100) % 7)


class Selects(nn.Module):
    """A shape that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]  # line: select


class Draws(nn.Module):
    """Random numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)  # line: draw


class Raises(nn.Module):
    """An error of its own."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such thing")  # line: raise


class Conditional(nn.Module):
    """Control flow inside the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))  # line: cond


class Counts(nn.Module):
    """State in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class Remembers(nn.Module):
    """State in an attribute, which export freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Sums(nn.Module):
    """No rows in the output."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class Pairs(nn.Module):
    """A shape that export takes for two fixed rows; any number is computed row by row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, -1).view(x.shape)


class Evens(nn.Module):
    """An even number of rows, each by itself; a norm to fold, a constant per row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        paired = x.view(-1, 2, 3, 4, 4).flatten(0, 1)
        scale = torch.full((paired.shape[0], 1), 2.0) * torch.ones(1, 8)
        return self.norm(self.conv(paired)).mean((2, 3)) * scale


class Swaps(nn.Module):
    """An even number of rows, the second half before the first."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, -1, x.shape[1]).flip(0).reshape(x.shape)


class Places(nn.Module):
    """A row's place decides what becomes of it; rows are two, or four."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.view(2, -1, x.shape[1])
        return (half + torch.arange(2.0).view(2, 1, 1)).reshape(x.shape)


class Centres(nn.Module):
    """Rows that depend on each other."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Twins(nn.Module):
    """Two parameters that are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"first": self.a(x), "second": self.b(x) * scale}
