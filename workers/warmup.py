"""Warm-up: what every function pays once is paid before the worker says it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.log import Log
from fusion.cache import DagCache
from fusion.dag import FusedDag
from fusion.errors import FusionError
from fusion.ir import Graph, Node, Output, Ref, TensorSpec, WeightSpec
from fusion.measurements import HotGroup
from fusion.members import DagKey
from fusion.passes.channels_last import channels_last
from fusion.specialise import specialised
from fusion.strategies.lanes import Lanes
from workers.dags import Call, Dags, make_member
from workers.library import Library

log = Log("warmup")

GROUP = 3
# of its images: what larger ones take more is activations
SIDE = 64
# every tier and then every strategy of a group is tried a few times
RUNS = 12


def warm_up(device: torch.device, threads: int, lanes: Lanes | None, within_s: float) -> None:
    """Page the libraries in and start their threads; leaves `threads` as torch's own number.

    Operators page in code of their own, so what a worker takes before it holds any weights is
    only known after a convolution, a product, a norm and an attention have run. Lanes run them
    too: oneDNN keeps scratch memory per thread, as large as the largest convolution wanted.
    """
    torch.set_num_threads(threads)
    if not within_s:
        return
    give_up_at_s = time.monotonic() + within_s
    for count in {1, threads}:
        torch.set_num_threads(count)
        _networks(device)
    torch.set_num_threads(threads)
    if lanes is not None:
        lanes.run([[partial(_networks, device)]] * lanes.count)
    _groups(device, lanes, give_up_at_s)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _groups(device: torch.device, lanes: Lanes | None, give_up_at_s: float) -> None:
    """Fused runs of up to GROUP functions, on the way that jobs take."""
    cache: DagCache[DagKey, FusedDag] = DagCache(2**30)
    dags = Dags(cache, device, lanes)
    graph = _image_network()
    # as it would be deployed
    named = {spec.name: torch.rand(spec.shape) for spec in graph.weights}
    graph, named = channels_last(graph, named)
    program = specialised(graph, device.type)
    # Each member has weights of its own, as far apart as the others', so that they stack too: what
    # runs first in a group of jobs would be taken for memory of functions.
    named = {name: x.expand(GROUP, *x.shape).contiguous().to(device) for name, x in named.items()}
    own = [[named[spec.name][k] for spec in graph.weights] for k in range(GROUP)]
    names = [tuple(f"{k}.{spec.name}" for spec in graph.weights) for k in range(GROUP)]
    for rows in (1, 4):
        image = np.zeros((rows, 3, SIDE, SIDE), np.float32)
        for members in (1, GROUP):
            calls = [
                Call(str(k), graph, program, names[k], own[k], [{"image": image}], rows)
                for k in range(members)
            ]
            for _ in range(RUNS):
                if time.monotonic() > give_up_at_s:
                    return
                dags.run(calls)


def _image_network() -> Graph:
    """A few residual blocks; [rows, 3, SIDE, SIDE] float32 to [rows, 10] float32."""
    weights: list[WeightSpec] = []
    nodes: list[Node] = []

    def weight(*shape: int) -> Ref:
        weights.append(WeightSpec(f"w{len(weights)}", "float32", shape))
        return Ref("weight", len(weights) - 1)

    def node(operator: str, *args: object) -> Ref:
        nodes.append(Node(operator, args))  # type: ignore[arg-type]  # each is an Arg
        return Ref("node", len(nodes) - 1)

    def convolution(found: Ref, inputs: int, outputs: int, size: int, stride: int) -> Ref:
        kernels, bias = weight(outputs, inputs, size, size), weight(outputs)
        half = size // 2
        return node("conv2d", found, kernels, bias, (stride, stride), (half, half))

    found = node("relu", convolution(Ref("input", 0), 3, 64, 7, 2))
    found = node("max_pool2d", found, (3, 3), (2, 2), (1, 1))
    channels = 64
    for wider in (128, 256, 512):
        inner = node("relu", convolution(found, channels, wider, 3, 2))
        inner = convolution(inner, wider, wider, 3, 1)
        found = node("relu", node("add.Tensor", inner, convolution(found, channels, wider, 1, 2)))
        channels = wider
    found = node("linear", node("mean.dim", found, (2, 3)), weight(10, channels), weight(10))
    image = TensorSpec("image", "float32", (None, 3, SIDE, SIDE))
    output = Output(TensorSpec("scores", "float32", (None, 10)), found)
    return Graph((image,), tuple(weights), tuple(nodes), (output,))


def warm_groups(
    groups: Sequence[HotGroup],
    find: Callable[[FunctionRef], Function],
    library: Library,
    dags: Dags,
    within_s: float,
) -> int:
    """Read and build what ran most before the last stop; how many groups are ready.

    Functions that are gone, or whose artifacts are broken, are left out with their groups.
    """
    ready = 0
    give_up_at_s = time.monotonic() + within_s
    for group in groups:
        if time.monotonic() >= give_up_at_s:
            break
        try:
            loaded = [library.get(find(FunctionRef.parse(ref))) for ref, _ in group.members]
        except (FuseboxError, FusionError, OSError) as error:
            log.info("group_not_warmed", functions=len(group.members), reason=error)
            continue
        is_alone = len(loaded) == 1
        bodies = [
            (each.at(rows), rows) for each, (_, rows) in zip(loaded, group.members, strict=True)
        ]
        dags.prepare(
            [make_member(body.program, rows, body.weight_keys, is_alone) for body, rows in bodies]
        )
        ready += 1
    return ready


@torch.inference_mode()
def _networks(device: torch.device) -> None:
    for rows in (1, 4):
        _small_network(device, rows)


def _small_network(device: torch.device, rows: int) -> None:
    image = torch.rand(rows, 3, 64, 64, device=device)  # [rows, 3, 64, 64] float32
    for last in (torch.contiguous_format, torch.channels_last):
        kernels = torch.rand(32, 3, 3, 3, device=device).to(memory_format=last)
        found = functional.conv2d(image.to(memory_format=last), kernels, padding=1).relu()
        functional.max_pool2d(found, 2).mean((2, 3))
        functional.conv2d(found, torch.rand(32, 1, 3, 3, device=device), groups=32)
    words = torch.rand(rows, 4, 32, 64, device=device)  # [rows, heads, words, width] float32
    functional.scaled_dot_product_attention(words, words, words)
    flat = functional.layer_norm(words.reshape(rows * 128, 64), (64,))
    functional.gelu(functional.linear(flat, torch.rand(256, 64, device=device))).softmax(-1)
