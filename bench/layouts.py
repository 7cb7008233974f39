"""Are kernels better stored channels last? The rule of fusion/layout.py, measured.

For convolutional networks of several widths and sizes: the faster of our tiers on kernels as
torch has them, over the faster on kernels channels last, in turn. Above 1 the rule is right.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere

import torch
from _report import Row, finish
from torch import Tensor

from fusion import export as exporting
from fusion.codegen import generate
from fusion.ir import Graph
from fusion.passes.channels_last import channels_last
from fusion.specialise import for_cpu
from tests.zoo import seeded, vision

BAR = 0.97
SMALL, MEDIUM, LARGE = 32, 64, 112
CASES = [
    *(("ResNet-18", vision.resnet18, *at) for at in ((8, SMALL), (32, MEDIUM), (64, LARGE))),
    *(("tiny CNN", vision.TinyCnn, *at) for at in ((8, SMALL), (32, MEDIUM), (64, LARGE))),
    *(("MobileNet", vision.MobileNet, *at) for at in ((8, SMALL), (16, MEDIUM), (32, LARGE))),
    *(("VGG", vision.Vgg, *at) for at in ((8, SMALL), (32, SMALL))),
    ("UNet", vision.UNet, 16, SMALL),
]


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the time per case")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()
    rows = []
    for name, model, width, size in CASES:
        made = seeded(partial(model, width), partial(_images, size), 0)
        with mock.patch.object(exporting, "with_channels_last", _as_it_is):
            plain = exporting.export(made.module, made.inputs, 16)
        graph, weights = plain.graph, plain.weights
        last, last_weights = channels_last(graph, weights)
        sides = [(graph, [*weights.values()]), (last, [*last_weights.values()])]
        for count in (1, 4):
            x = torch.randn(count, 3, size, size)
            gain = _gain(sides, x, 0.4 if options.quick else 2.0)
            rows.append(Row(f"{name}, width {width}, {size} px, {count} rows", gain, "x", BAR))
    return finish(rows, "Kernels as torch has them over kernels channels last", options.json)


def _images(size: int) -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


def _as_it_is(graph: Graph, weights: dict[str, Tensor], *_: object) -> tuple[Graph, object]:
    return graph, weights


@torch.inference_mode()
def _gain(sides: Sequence[tuple[Graph, list[Tensor]]], x: Tensor, budget_s: float) -> float:
    variants = [
        (side, generate(graph).run, weights)
        for side, (made, weights) in enumerate(sides)
        for graph in (made, for_cpu(made))
    ]
    times_s: list[list[float]] = [[] for _ in variants]
    end_s = perf_counter() + budget_s
    while perf_counter() < end_s or len(times_s[0]) < 9:
        for which, (_, run, weights) in enumerate(variants):
            began_s = perf_counter()
            run(weights, [x])
            times_s[which].append(perf_counter() - began_s)
    best_s = [
        min(median(t[2:]) for t, (its, *_) in zip(times_s, variants, strict=True) if its == side)
        for side in (0, 1)
    ]
    return best_s[0] / best_s[1]


if __name__ == "__main__":
    sys.exit(main())
