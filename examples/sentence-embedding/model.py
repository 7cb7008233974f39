"""MiniLM with mean pooling: token ids in, unit vectors out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertModel
from transformers.utils import logging


class SentenceEmbedder(nn.Module):
    """A BERT encoder whose token vectors are averaged over the mask and scaled to length 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        # the file also holds a pooling layer that this model has no use for; it would be reported
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """[rows, tokens] int64, twice -> [rows, 384] float32."""
        encoded = self.bert(input_ids=input_ids, attention_mask=attention_mask)
        hidden = encoded.last_hidden_state  # [rows, tokens, 384] float32
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # [rows, tokens, 1] float32
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return {"embeddings": torch.nn.functional.normalize(mean, dim=1)}
