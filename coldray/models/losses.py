"""Next-item losses: softmax over all warm items, or an estimate of it from the target and drawn negatives.

Both compute their gradients together with the loss: the logits are exponentiated in place and used at once, so that
nothing of their size is kept for a backward pass, and no product is computed twice.

Shapes: n positions, W warm items, m negatives, d the embedding size. Losses are means over the positions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Size of the logits that the full softmax holds at a time; on a CPU they stay in the second-level caches, where the
products run twice as fast as in the third."""


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        targets: Tensor,
        positives: Tensor,
        negatives: Tensor,
        samples: Tensor,
        log_expected: Tensor,
    ) -> Tensor:
        n = len(queries)
        positive = (queries * positives).sum(dim=1, keepdim=True)
        p = torch.addmm(-log_expected, queries, samples.T)
        p.masked_fill_(targets[:, None] == negatives, float("-inf"))
        highest = torch.maximum(p.amax(dim=1, keepdim=True), positive)
        p.sub_(highest).exp_()
        hit = (positive - highest).exp_()
        total = p.sum(dim=1, keepdim=True) + hit
        loss = (total.log() + highest - positive).sum() / n
        scale = 1 / (total * n)
        pull = hit * scale - 1 / n
        query_gradient = (p @ samples).mul_(scale).addcmul_(pull, positives)
        ctx.save_for_backward(query_gradient, pull * queries, p.T @ (queries * scale))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None, Tensor, None]:
        queries, positives, samples = ctx.saved_tensors
        return queries * gradient, None, positives * gradient, None, samples * gradient, None


def sampled_softmax(
    queries: Tensor,
    targets: Tensor,
    positives: Tensor,
    negatives: Tensor,
    samples: Tensor,
    log_expected: Tensor,
) -> Tensor:
    """Return the cross-entropy of each target against negatives that all positions share.

    queries [n, d]; targets [n] item indices with their vectors positives [n, d]; negatives [m] item indices with
    their vectors samples [m, d]. A negative that is a position's own target is left out there. log_expected [m] is
    the logarithm of how often each negative's item is expected among m draws: it is taken from the logit, so that the
    sum of exponentials estimates that over all items without bias (importance sampling, Bengio and Senecal, 2008).
    """
    loss: Tensor = _SampledSoftmax.apply(queries, targets, positives, negatives, samples, log_expected)  # type: ignore[no-untyped-call]  # torch's apply
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, targets: Tensor, items: Tensor, dtype: torch.dtype) -> Tensor:
        n = len(queries)
        rows = max(1, CHUNK_BYTES.get(items.device.type, 1 << 28) // (dtype.itemsize * len(items)))
        query_gradient = torch.empty_like(queries)
        item_gradient = torch.zeros_like(items)
        loss = queries.new_zeros(())
        table = items.to(dtype)
        logits = torch.empty(min(rows, n), len(items), dtype=dtype, device=queries.device)
        for start in range(0, n, rows):
            q, t = queries[start : start + rows], targets[start : start + rows]
            p = torch.mm(q.to(dtype), table.T, out=logits[: len(q)])
            highest = p.amax(dim=1, keepdim=True)
            positive = p.gather(1, t[:, None]).to(queries.dtype)
            p.sub_(highest).exp_()
            total = p.sum(dim=1, keepdim=True, dtype=queries.dtype)
            loss += (total.log() + highest - positive).sum()
            scale = 1 / (total * n)
            query_gradient[start : start + rows] = (p @ table) * scale
            if dtype == item_gradient.dtype:
                item_gradient.addmm_(p.T, q * scale)
            else:
                item_gradient += p.T @ (q * scale).to(dtype)
        query_gradient.sub_(items[targets], alpha=1 / n)
        item_gradient.index_add_(0, targets, queries, alpha=-1 / n)
        ctx.save_for_backward(query_gradient, item_gradient)
        return loss / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None]:
        queries, items = ctx.saved_tensors
        return queries * gradient, None, items * gradient, None


def full_softmax(
    queries: Tensor, targets: Tensor, items: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the cross-entropy of each target against all W items, a chunk of positions at a time.

    queries [n, d], targets [n] rows of items [W, d]; the products are computed in `dtype`, sums in float32.
    """
    loss: Tensor = _FullSoftmax.apply(queries, targets, items, dtype)  # type: ignore[no-untyped-call]  # torch's apply
    return loss
