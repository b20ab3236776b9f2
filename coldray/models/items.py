"""Item vectors: free, initialised from content, or a frozen content embedding plus a bounded trained residual."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Variant = Literal["sasrec", "content-init", "delta"]


class ItemEmbedding(nn.Module):
    """The vectors of items 0..num_items, 0 being the padding, whose vector stays zero.

    `sasrec` and `content-init` train the vectors themselves, from random values and from the content embedding.
    `delta` keeps the content embedding e0 as it is and trains a residual D that starts at zero: e = e0 + D
    (gated residual transfer, eq. 1), the norm of each of its rows at most `max_delta_norm`.
    """

    base: Tensor | None

    def __init__(
        self,
        variant: Variant,
        num_items: int,
        dim: int,
        content: Tensor | None = None,
        max_delta_norm: float | None = None,
    ) -> None:
        """Take `content` [num_items + 1, dim] for the variants that start from it."""
        super().__init__()
        self.variant = variant
        self.max_delta_norm = max_delta_norm if variant == "delta" else None
        if variant == "sasrec":
            weight = torch.empty(num_items + 1, dim).normal_(std=0.02)
        elif content is None:
            raise ValueError(f"the variant {variant} needs a content embedding")
        else:
            weight = content.clone() if variant == "content-init" else torch.zeros_like(content)
        weight[0] = 0
        self.register_buffer("base", content.clone() if variant == "delta" and content is not None else None)
        self.weight = nn.Parameter(weight)

    def forward(self, items: Tensor) -> Tensor:
        """Return the vectors [..., dim] of the items [...]."""
        vectors = F.embedding(items, self.weight, padding_idx=0)
        return vectors if self.base is None else vectors + F.embedding(items, self.base)

    def table(self) -> Tensor:
        """Return the vectors of all items [num_items + 1, dim]."""
        return self.weight if self.base is None else self.base + self.weight

    @torch.no_grad()
    def project(self) -> None:
        """Shorten the residuals that are longer than `max_delta_norm`; called after every optimiser step."""
        if self.max_delta_norm is not None:
            norms = self.weight.norm(dim=1, keepdim=True)
            self.weight.mul_(self.max_delta_norm / norms.clamp_(min=self.max_delta_norm))
