"""Train the CNN on scikit-learn's digits and write `digits.safetensors`: `python train.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from data import Split, load_split
from model import DigitNet
from safetensors.torch import save_file
from torch import Tensor

EPOCHS = 40
ROWS = 64
SEED = 7


def as_images(images: object) -> Tensor:
    """[n, 8, 8], 0 to 16 -> [n, 1, 8, 8] float32, 0 to 1."""
    return torch.as_tensor(images, dtype=torch.float32).unsqueeze(1) / 16


def train(split: Split) -> DigitNet:
    """The net after EPOCHS passes over the training images, in evaluation mode."""
    torch.manual_seed(SEED)
    net = DigitNet()
    images, labels = as_images(split.train_images), torch.as_tensor(split.train_labels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(labels) // ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(ROWS):
            loss = torch.nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def accuracy(net: DigitNet, images: object, labels: object) -> float:
    """Share of images whose digit is found."""
    with torch.no_grad():
        found = net(as_images(images)).argmax(dim=1)
    return float((found == torch.as_tensor(labels)).float().mean())


def main() -> None:
    """Train, report, write the weights."""
    split = load_split()
    net = train(split)
    trained = accuracy(net, split.train_images, split.train_labels)
    held_out = accuracy(net, split.held_out_images, split.held_out_labels)
    sys.stdout.write(f"accuracy: train {trained:.4f}, held out {held_out:.4f}\n")
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, Path(__file__).with_name("digits.safetensors"))


if __name__ == "__main__":
    main()
