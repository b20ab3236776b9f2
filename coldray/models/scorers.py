"""Trained sequence models as scorers: queries from histories, scores by inner product."""

import torch
from torch import Tensor

from coldray.models.sasrec import SASRec


class SASRecScorer:
    """Scores all items for a history: s(u, i) = h_u . e_i (gated residual transfer, eq. 2)."""

    def __init__(
        self,
        encoder: SASRec,
        item_vectors: Tensor,
        item_bias: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        """Take the trained encoder and the vectors [num_items + 1, d] of all items, transferred ones included.

        item_bias [num_items + 1], if given, is added to the scores; `inputs` [num_items + 1, d] are what the encoder
        reads, if not the same vectors.
        """
        self.encoder = encoder.eval()
        self.item_vectors = item_vectors
        self.inputs = item_vectors if inputs is None else inputs
        self.item_bias = item_bias
        self.num_items = len(item_vectors) - 1
        self.max_length = encoder.settings.max_length
        self.device = item_vectors.device
        self._scores = item_vectors.new_empty(0)

    def encode(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return the queries [B, d] after the last item of histories [B, L], zero after an empty one."""
        hidden = self.encoder(self.inputs[histories])
        last = hidden[torch.arange(len(histories), device=self.device), (lengths - 1).clamp(min=0)]
        queries: Tensor = last * (lengths > 0)[:, None]
        return queries

    def scores(self, users: Tensor) -> Tensor:
        """Return scores [B, num_items + 1] for queries [B, d], in memory that the next call uses again."""
        if len(self._scores) < len(users):
            self._scores = users.new_empty(len(users), self.num_items + 1)
        out = self._scores[: len(users)]
        if self.item_bias is None:
            return torch.mm(users, self.item_vectors.T, out=out)
        return torch.addmm(self.item_bias, users, self.item_vectors.T, out=out)
