"""The models of bench/gpu_fusion.py, placed as a worker places them: one allocation a function."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.codegen import Program, generate
from fusion.errors import ExportError
from fusion.export import export
from fusion.graphs.member import Part
from fusion.ir import Graph
from tests.zoo import ZOO, Example, seeded, text, vision

ALIGNMENT = 64
SMALL = ("mlp", "tiny_cnn", "embedding")
MAX_ROWS = 8
TOKENS, VOCABULARY = 64, 30522
Make = Callable[[int], Example]  # a seed gives weights of its own


class BertBase(nn.Module):
    """BERT-base: 12 layers of 768, 12 heads, 3072 inside; the first token's state."""

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.pooler = nn.Linear(width, width)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.tokens(ids) + self.places(places))  # [rows, TOKENS, width]
        for layer in self.layers:
            x = layer(x)
        return torch.tanh(self.pooler(x[:, 0]))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = self.norm1(x + self.o(attended.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


def _image() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, 224, 224)}


def _ids() -> dict[str, Tensor]:
    return {"ids": torch.randint(0, VOCABULARY, (2, TOKENS))}


def _seeded(module: Callable[[], nn.Module], inputs: Callable[[], dict[str, Tensor]]) -> Make:
    return lambda seed: seeded(module, inputs, seed)


RESNET50 = _seeded(partial(vision.resnet50, classes=1000), _image)
BERT = _seeded(BertBase, _ids)
OWN: dict[str, Make] = {
    "ResNet-50": RESNET50,
    "BERT-base": BERT,
    "ResNet-18": _seeded(partial(vision.resnet18, classes=1000), _image),
    "MobileNet-V2": _seeded(partial(vision.MobileNet, 32, (1, 2, 3, 4, 3)), _image),
    "ViT, 384 wide": _seeded(partial(vision.Vit, 224, 16, 384, 12), _image),
    "VGG": _seeded(partial(vision.Vgg, 64, 4096), _image),
    "LSTM": _seeded(partial(text.Lstm, 64, 256), lambda: {"x": torch.randn(2, 32, 64)}),
    "U-Net": _seeded(partial(vision.UNet, 32), lambda: {"x": torch.randn(2, 3, 128, 128)}),
    "plain CNN": _seeded(partial(vision.PlainCnn, 64), lambda: {"x": torch.randn(2, 3, 16, 16)}),
}
TORCHVISION = (
    "resnet50", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "densenet121", "vgg16",
    "squeezenet1_1", "resnext50_32x4d",
)  # fmt: skip


def popular(is_dry: bool) -> Iterator[tuple[str, Make]]:
    """Architectures by name, the best known first; torchvision's where it is there."""
    if is_dry:
        yield from ((name, partial(_small, name)) for name in SMALL)
        return
    try:
        from torchvision import models  # a bare image has none
    except ImportError:
        yield from OWN.items()
        return
    yield "BERT-base", BERT
    for name in TORCHVISION:
        yield name, _seeded(partial(getattr(models, name), weights=None), _image)
    yield from OWN.items()


def like(name: str, is_dry: bool) -> Make:
    """ResNet-50 or BERT-base; something small in a dry run."""
    own = {"ResNet-50": ("tiny_cnn", RESNET50), "BERT-base": ("bert", BERT)}
    small, full = own[name]
    return partial(_small, small) if is_dry else full


def _small(name: str, seed: int) -> Example:
    return ZOO[name](seed=seed)


class Placed(NamedTuple):
    """One function on the device, as a model and as a graph with its weights in one allocation."""

    name: str
    module: nn.Module
    inputs: list[Tensor]  # [1, ...] each, by the module's order
    program: Program
    data: Tensor  # [bytes] uint8: what a swap-in copies to
    weights: list[Tensor]  # views of data, in the graph's order

    @property
    def part(self) -> Part:
        """What its graph is captured from, one row."""
        return Part(self.program, self.weights, 1)

    def eager(self) -> list[Tensor]:
        """The model's outputs."""
        return flat(self.module(*self.inputs))

    def generated(self) -> list[Tensor]:
        """The graph's outputs, call by call."""
        return self.program.run(self.weights, self.inputs)


class Packed(NamedTuple):
    """One function on the host."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]  # [1, ...] each, in the graph's order
    graph: Graph
    data: Tensor  # [bytes] uint8

    def placed(self, device: torch.device, programs: dict[str, Program]) -> Placed:
        """The same on the device; one program for an architecture, as a worker has it."""
        program = programs.setdefault(self.graph.architecture, generate(self.graph))
        data = self.data.to(device)
        inputs = [x.to(device) for x in self.inputs.values()]
        weights = views_of(data, self.graph)
        return Placed(self.name, self.module.to(device), inputs, program, data, weights)


def packed(name: str, make: Make, seed: int = 0) -> Packed:
    """Export the model; raises ExportError."""
    example = make(seed)
    exported = export(example.module, example.inputs, MAX_ROWS)
    inputs = {spec.name: example.inputs[spec.name][:1] for spec in exported.graph.inputs}
    data = _pack(exported.graph, exported.weights)
    return Packed(name, example.module, inputs, exported.graph, data)


def by_name(names: Sequence[str], is_dry: bool) -> list[Make]:
    """These of the popular ones."""
    makes = dict(popular(is_dry))
    return [makes[name] for name in names]


def first_exported(makes: Iterator[tuple[str, Make]], count: int) -> list[Packed]:
    """The first `count` of different architectures that can be exported."""
    found: dict[str, Packed] = {}
    for name, make in makes:
        if len(found) == count:
            break
        try:
            made = packed(name, make)
        except ExportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        found.setdefault(made.graph.architecture, made)
    return [*found.values()]


def flat(result: object) -> list[Tensor]:
    """A module's outputs in the graph's order."""
    if isinstance(result, Tensor):
        return [result]
    return list(result.values() if isinstance(result, Mapping) else result)  # type: ignore[call-overload]


def _offsets(graph: Graph) -> list[int]:
    offsets = [0]
    for spec in graph.weights:
        offsets.append(-(-(offsets[-1] + spec.bytes) // ALIGNMENT) * ALIGNMENT)
    return offsets


def _pack(graph: Graph, weights: Mapping[str, Tensor]) -> Tensor:
    data = torch.zeros(max(_offsets(graph)[-1], ALIGNMENT), dtype=torch.uint8)
    for view, weight in zip(views_of(data, graph), weights.values(), strict=True):
        view.copy_(weight)
    return data


def views_of(data: Tensor, graph: Graph) -> list[Tensor]:
    return [
        data[offset : offset + spec.bytes].view(getattr(torch, spec.dtype)).view(spec.shape)
        for offset, spec in zip(_offsets(graph), graph.weights, strict=False)
    ]
