"""UniSRec (Hou et al., 2022, KDD): items are their texts alone, through whitening experts, and a self-attentive encoder.

Trained in two stages on the split's own sequences: first contrastively, sequence to next item and sequence to its shortened
self; then, with the encoder fixed, to tell the next item among all warm ones. It is the paper's inductive setting: no item
has a vector of its own, so that a cold one is treated as any other. The paper pre-trains on other shops too.

Shapes: B sequences, L items, N items of the catalogue, e the size of their text embeddings, d that of the encoder.
"""

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from coldray.models.dropout import Dropout
from coldray.models.sasrec import SASRec, SASRecSettings
from coldray.models.scorers import SASRecScorer
from coldray.settings import Settings


class UniSRecSettings(Settings):
    """The paper's settings, but for the epochs of the first stage, which there go over five other shops."""

    encoder: SASRecSettings = SASRecSettings(dim=300, num_heads=2, dropout=0.5, max_length=50)
    experts: int = Field(8, ge=1, description="whitening layers that are mixed")
    adaptor_dropout: float = Field(0.2, ge=0, lt=1)
    temperature: float = Field(0.07, gt=0)
    sequence_weight: float = Field(1e-3, ge=0, description="of sequence-to-sequence contrast, lambda there")
    item_drop: float = Field(0.2, ge=0, lt=1, description="share of items that a shortened sequence lacks")
    pretrain_epochs: int = Field(20, ge=0)
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    batch_size: int = Field(256, ge=1, description="sequences")
    max_epochs: int = Field(60, ge=1, description="of the second stage")
    patience: int = Field(5, ge=1, description="epochs without a better validation NDCG@10")


SEARCH = ({"learning_rate": 3e-4}, {"learning_rate": 1e-3}, {"learning_rate": 3e-3})
"""what the paper tunes"""


class Adaptor(nn.Module):
    """Whitening experts mixed by a noisy gate (section 2.1.2 there)."""

    def __init__(self, size: int, dim: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(experts, size))
        self.weight = nn.Parameter(torch.randn(experts, size, dim) * 0.02)
        self.gate = nn.Parameter(torch.zeros(size, experts))
        self.noise = nn.Parameter(torch.zeros(size, experts))
        self.dropout = Dropout(dropout)

    def forward(self, texts: Tensor) -> Tensor:
        """Return [n, d] for text embeddings [n, e]."""
        logits = texts @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(texts @ self.noise) + 1e-2)
        # (x - b) W = x W - b W: one product for the texts of all experts.
        shift = torch.einsum("ge,ged->gd", self.bias, self.weight)
        expert = torch.einsum("ne,ged->ngd", self.dropout(texts), self.weight) - shift
        mixed: Tensor = torch.einsum("ng,ngd->nd", logits.softmax(dim=1), expert)
        return mixed


class UniSRec(nn.Module):
    """The model; `stage` says which of the two losses `loss` is."""

    content: Tensor
    """[N + 1, e]"""
    stages = ("pretrain", "fine-tune")

    def __init__(self, content: npt.NDArray[np.float32], num_warm: int, settings: UniSRecSettings) -> None:
        """Take the text embeddings [N + 1, e] of all items, row 0 zero."""
        super().__init__()
        self.settings, self.num_warm, self.stage = settings, num_warm, "pretrain"
        self.register_buffer("content", torch.from_numpy(content), persistent=False)
        self.adaptor = Adaptor(
            content.shape[1], settings.encoder.dim, settings.experts, settings.adaptor_dropout
        )
        self.encoder = SASRec(settings.encoder)

    def begin(self, stage: str) -> list[nn.Parameter]:
        """Enter a stage and return what is trained in it: in the second the adaptor alone."""
        self.stage = stage
        return list(self.parameters() if stage == "pretrain" else self.adaptor.parameters())

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss over all positions that have a next item; items [B, L] padded with 0 on the right."""
        inputs, targets = items[:, :-1], items[:, 1:]
        there = targets > 0
        if self.stage == "fine-tune":
            table = self.adaptor(self.content[: self.num_warm + 1])
            queries = self._encode(table[inputs])[there]
            logits = queries @ F.normalize(table[1:], dim=1).T / self.settings.temperature
            return F.cross_entropy(logits, targets[there] - 1)
        known, places = torch.unique(items, return_inverse=True)
        table = self.adaptor(self.content[known])
        queries = self._encode(table[places[:, :-1]])[there]
        # The other next items of the batch are the negatives; one that is the same item is none.
        distinct, wanted_places = torch.unique(places[:, 1:][there], return_inverse=True)
        logits = queries @ F.normalize(table[distinct], dim=1).T / self.settings.temperature
        return F.cross_entropy(logits, wanted_places) + self.settings.sequence_weight * self._self_contrast(
            table, places, items, lengths
        )

    def _self_contrast(self, table: Tensor, places: Tensor, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the loss of telling each sequence's shortened self among those of the others (equation 7 there)."""
        rows = torch.arange(len(items), device=items.device)
        whole = self._encode(table[places])[rows, lengths - 1]
        kept = (torch.rand(items.shape, device=items.device) >= self.settings.item_drop) & (items > 0)
        kept[rows, lengths - 1] = True
        order = kept.int().argsort(dim=1, descending=True, stable=True)
        padding = places[items == 0][:1] if (items == 0).any() else places.new_zeros(1)
        short = torch.where(kept.gather(1, order), places.gather(1, order), padding)
        shortened = self._encode(table[short])[rows, kept.sum(dim=1) - 1]
        return F.cross_entropy(whole @ shortened.T / self.settings.temperature, rows)

    def _encode(self, vectors: Tensor) -> Tensor:
        return F.normalize(self.encoder(vectors), dim=-1)

    @torch.no_grad()
    def scorer(self) -> SASRecScorer:
        """Return what ranks the catalogue by cosine."""
        self.eval()
        table = self.adaptor(self.content)
        table[0] = 0
        return SASRecScorer(self.encoder, F.normalize(table, dim=1), inputs=table)
