"""Warm-up: what every function pays once is paid before the worker says it is ready."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional

from fusion.strategies.lanes import Lanes


def warm_up(device: torch.device, threads: int, lanes: Lanes | None) -> None:
    """Page the libraries in and start their threads; leaves `threads` as torch's own number.

    Operators page in code of their own, so what a worker takes before it holds any weights is
    only known after a convolution, a product, a norm and an attention have run. Lanes run them
    too: oneDNN keeps scratch memory per thread, as large as the largest convolution wanted.
    """
    for count in {1, threads}:
        torch.set_num_threads(count)
        _networks(device)
    torch.set_num_threads(threads)
    if lanes is not None:
        lanes.run([[partial(_networks, device)]] * lanes.count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def _networks(device: torch.device) -> None:
    for rows in (1, 4):
        _small_network(device, rows)
        _deep_convolutions(device, rows)


def _deep_convolutions(device: torch.device, rows: int) -> None:
    image = torch.rand(rows, 512, 7, 7, device=device)  # [rows, 512, 7, 7] float32
    for size in (1, 3):
        kernels = torch.rand(512, 512, size, size, device=device)
        functional.conv2d(image, kernels, padding=size // 2)


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
