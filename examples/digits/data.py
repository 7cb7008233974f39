"""scikit-learn's digits, 1,797 real images, split once and for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Split(NamedTuple):
    """Images [n, 8, 8] float64, 0 to 16, and labels [n] int64."""

    train_images: NDArray[np.float64]
    held_out_images: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    held_out_labels: NDArray[np.int64]


def load_split() -> Split:
    """A quarter is held out: 450 images that training never sees."""
    digits = load_digits()
    return Split(
        *train_test_split(
            digits.images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
        )
    )
