"""Groups of functions to time: which models, how many jobs and rows, and the bars they have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.export import Exported, export
from tests.zoo import ZOO, Example, seeded, text, vision

BAR = 0.97  # never slower; 3 % for noise
SMALL_BAR, LARGE_BAR, CALLERS_BAR = 2.0, 1.3, 3.0
HEADS_BAR, HEADS_HELD_BAR = 1.5, 0.3
ZOO_GROUPS = (1, 2, 4, 8)
SMALL = ("mlp", "tiny_cnn", "bert")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sentence-embedding"


class Case(NamedTuple):
    """A group to time: `calls[k]` rows of one row each for function k."""

    name: str
    examples: Sequence[Example]
    exports: Sequence[Exported]
    jobs: int = 1  # of each function, one row each
    bar: float = BAR
    rows: int = 1  # of each job
    held_bar: float | None = None  # weights held, each content once, over those of all functions
    is_zoo: bool = False  # against the same tiers apart alone


Cases = Iterator[tuple[str, Callable[[str], Case]]]  # named; exported when their turn comes
Model = Callable[[int], Example]  # a seed gives weights of its own


def zoo_cases() -> Cases:
    """Every model of the tests' zoo in groups of all sizes."""
    for name in ZOO:
        model = _small(name)
        for count in ZOO_GROUPS:
            of = f"{count} functions" if count > 1 else "1 function"
            yield f"{name}, {of}", _group(model, count, is_zoo=True)


def quick_cases() -> Cases:
    """A few of small models."""
    for count in (2, 4, 8):
        yield f"mlp, {count} functions", _group(_small("mlp"), count)
    for name in ("tiny_cnn", "bert"):
        yield f"{name}, 4 functions", _group(_small(name), 4)
    yield "3 architectures", _mixed([_small(name) for name in SMALL])
    for name in ("mlp", "bert"):
        yield f"{name}, 8 jobs of one function", _same(_small(name), 8)
    yield "resnet18 (64 px), 2 functions", _group(_large("resnet18", 64), 2)


def full_cases() -> Cases:
    """Small and large models, with the bars of each."""
    for name in SMALL:
        model = _small(name)
        for count in (2, 4, 8):
            bar = SMALL_BAR if count == 4 else BAR
            yield f"{name}, {count} functions", _group(model, count, bar=bar)
    yield "3 architectures", _mixed([_small(name) for name in SMALL])
    for name in SMALL:
        for jobs in (4, 8, 16):
            bar = CALLERS_BAR if jobs == 8 and name != "tiny_cnn" else BAR
            yield f"{name}, {jobs} jobs of one function", _same(_small(name), jobs, bar)
    for name in ("resnet18", "mobilenet", "resnet50"):
        model = _large(name, 224)
        for count in (2, 4, 8):
            bar = LARGE_BAR if count < 8 and name != "mobilenet" else BAR
            yield f"{name} (224 px), {count} functions", _group(model, count, bar=bar)
    model = _large("mobilenet", 224)
    for count in (2, 4):
        made = _group(model, count, bar=SMALL_BAR, rows=4)
        yield f"mobilenet (224 px), {count} functions, 4 rows", made
    yield "resnet18 (224 px), 4 jobs of one function", _same(_large("resnet18", 224), 4)
    model = _bert_small()
    for count in (2, 4, 8):
        yield f"BERT (256 wide, 64 tokens), {count} functions", _group(model, count)
    yield "MiniLM, 4 heads on one backbone", _heads(4)


def groups_to_build() -> Iterator[tuple[str, bool, Callable[[str], Case]]]:
    """Groups of four, and whether their members are small."""
    for name in SMALL:
        yield f"{name}, 4 functions", True, _group(_small(name), 4)
    yield "4 small architectures", True, _mixed([_small(name) for name in (*SMALL, "vit")])
    yield "tiny_cnn, 4 heads on one backbone", True, _tuned(_small("tiny_cnn"), 4)
    large = [_large(name, 64) for name in ("resnet18", "mobilenet")]
    yield "resnet18, 4 functions", False, _group(large[0], 4)
    yield "resnet18, 4 heads on one backbone", False, _tuned(large[0], 4)
    yield "4 architectures", False, _mixed([*large, _small("vit"), _small("bert")])


def _tuned(model: Model, count: int) -> Callable[[str], Case]:
    """Functions that differ in their last linear layer alone, as if each had been fine-tuned."""

    def make(name: str) -> Case:
        examples = [model(0) for _ in range(count)]
        for seed, example in enumerate(examples):
            torch.manual_seed(seed)
            heads = [part for part in example.module.modules() if isinstance(part, nn.Linear)]
            heads[-1].reset_parameters()
        return Case(name, examples, [export(e.module, e.inputs, 16) for e in examples])

    return make


def _small(name: str) -> Model:
    return lambda seed: ZOO[name](seed=seed)


def _large(name: str, size: int) -> Model:
    module = {
        "resnet18": vision.resnet18,
        "resnet50": vision.resnet50,
        "mobilenet": partial(vision.MobileNet, 32, (1, 2, 3, 4, 3)),
    }[name]
    return lambda seed: seeded(module, lambda: {"x": torch.randn(2, 3, size, size)}, seed)


def _bert_small() -> Model:
    def inputs() -> dict[str, Tensor]:
        ids = torch.randint(0, 1000, (2, 64))
        return {"ids": ids, "mask": torch.ones(2, 64, dtype=torch.int64)}

    return lambda seed: seeded(partial(text.Bert, 1000, 256, 4, 4), inputs, seed)


def _group(
    model: Model, count: int, bar: float = BAR, rows: int = 1, is_zoo: bool = False
) -> Callable[[str], Case]:
    """Different functions of one architecture."""

    def make(name: str) -> Case:
        examples, exports = zip(*(_made(model, seed) for seed in range(count)), strict=True)
        return Case(name, examples, exports, bar=bar, rows=rows, is_zoo=is_zoo)

    return make


@lru_cache(maxsize=8)  # the functions of the largest group
def _made(model: Model, seed: int) -> tuple[Example, Exported]:
    """Groups of one model differ in size alone, and exporting takes longer than timing."""
    example = model(seed)
    return example, export(example.module, example.inputs, 16)


class _WithHead(nn.Module):
    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(384, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.backbone(input_ids, attention_mask)["embeddings"])


def _heads(count: int) -> Callable[[str], Case]:
    """Functions on MiniLM with its real weights, each with a head of its own."""
    return lambda name: _with_heads(name, count)


def _with_heads(name: str, count: int) -> Case:
    sys.path.insert(0, str(EXAMPLE))
    from handler import example_inputs, load

    backbone, inputs = load().eval(), example_inputs()
    examples, exports = [], []
    for seed in range(count):
        torch.manual_seed(seed)
        module = _WithHead(backbone, 2 + seed).eval()
        examples.append(Example(module, inputs))
        exports.append(export(module, inputs, 16))
    return Case(name, examples, exports, bar=HEADS_BAR, held_bar=HEADS_HELD_BAR)


def _mixed(models: Sequence[Model]) -> Callable[[str], Case]:
    """Different architectures."""

    def make(name: str) -> Case:
        examples = [model(0) for model in models]
        return Case(name, examples, [export(e.module, e.inputs, 16) for e in examples])

    return make


def _same(model: Model, jobs: int, bar: float = BAR) -> Callable[[str], Case]:
    """Several callers of one function."""

    def make(name: str) -> Case:
        example = model(0)
        exported = export(example.module, example.inputs, 16)
        return Case(name, [example], [exported], jobs, bar)

    return make


def keys_of(made: Exported) -> tuple[str, ...]:
    """Content keys of the weights, as their files give them."""
    return tuple(sha256(w.contiguous().numpy()).hexdigest() for w in made.weights.values())


def held(case: Case) -> float:
    """Bytes of the weights with each content once, over the bytes of all."""
    sizes = [
        (key, spec.bytes)
        for made in case.exports
        for key, spec in zip(keys_of(made), made.graph.weights, strict=True)
    ]
    return sum(dict(sizes).values()) / sum(size for _, size in sizes)


def _job(example: Example, index: int, rows: int) -> dict[str, Tensor]:
    return {
        name: torch.cat([x[(index + k) % 2 : (index + k) % 2 + 1] for k in range(rows)])
        for name, x in example.inputs.items()
    }


def jobs_of(case: Case, example: Example) -> list[list[Tensor]]:
    return [list(_job(example, j, case.rows).values()) for j in range(case.jobs)]
