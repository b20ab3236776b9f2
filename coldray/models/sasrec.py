"""SASRec: self-attention over a user's items (Kang and McAuley, 2018), pre-norm, with learned positions.

Shapes: B sequences, L items, H heads, d the embedding size.
"""

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from coldray.models.dropout import Dropout
from coldray.settings import Settings


class SASRecSettings(Settings):
    """The encoder."""

    dim: int = Field(128, ge=1, description="embedding size d, also the width of the feed-forward layers")
    num_blocks: int = Field(2, ge=1)
    num_heads: int = Field(1, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    max_length: int = Field(64, ge=1, description="items; the last ones of a longer history are read")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "SASRecSettings":
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of num_heads {self.num_heads}")
        return self


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each behind a layer norm and with a residual connection."""

    def __init__(self, settings: SASRecSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.num_heads = settings.num_heads
        self.dropout = Dropout(settings.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, dim)
        self.outer = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, L, d]."""
        b, length, dim = x.shape
        heads = (b, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = self.qkv(self.attention_norm(x)).view(heads).permute(2, 0, 3, 1, 4)
        attended = self._attend(q, k, v).transpose(1, 2).reshape(b, length, dim)
        x = x + self.dropout(self.out(attended))
        hidden = self.dropout(F.relu(self.inner(self.feed_forward_norm(x))))
        y: Tensor = x + self.dropout(self.outer(hidden))
        return y

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the causal attention [B, H, L, d / H]."""
        rate = self.dropout.rate if self.training else 0.0
        if rate == 0 or q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        # With dropout torch's CPU kernel falls back to these steps, and draws its random numbers slowly.
        b, heads, length, width = q.shape
        flat = (b * heads, length, width)
        later = torch.full((length, length), float("-inf")).triu_(1)
        scores = torch.baddbmm(later, q.reshape(flat), k.reshape(flat).transpose(1, 2), alpha=width**-0.5)
        attended: Tensor = self.dropout(scores.softmax(dim=2)) @ v.reshape(flat)
        return attended.view(q.shape)


class SASRec(nn.Module):
    """The encoder: item vectors of a sequence in, a query for the item after each of them out."""

    def __init__(self, settings: SASRecSettings) -> None:
        super().__init__()
        self.settings = settings
        self.positions = nn.Parameter(torch.empty(settings.max_length, settings.dim))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.num_blocks))
        self.dropout = Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's generator."""
        nn.init.normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the queries [B, L, d] for item vectors [B, L, d] whose padding, if any, is on the right.

        Attention is causal and padding comes last, so that no item ever sees it and no mask is needed.
        """
        length = vectors.shape[1]
        x = vectors * math.sqrt(self.settings.dim) + self.positions[:length]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed
