"""TDRO (Lin et al., 2024, AAAI): CLCRec trained for its worst groups of items, and for those that tastes move towards.

Items are grouped by their content; interactions by when they happened, too. A step weighs each group's loss by how bad it
has been (the worst-case factor) and by how well its gradient goes with that of late periods (the shifting factor). Where
data has no times, as here, the period of an interaction is its place in its user's sequence.

Shapes: S interactions, G groups, E periods.
"""

import faiss
import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from coldray.models.clcrec import CLCRec, CLCRecSettings, positive_pairs


class TDROSettings(CLCRecSettings):
    """The settings of the paper's code for Amazon."""

    groups: int = Field(5, ge=1)
    periods: int = Field(5, ge=1)
    shift: float = Field(0.3, ge=0, le=1, description="weight of the shifting factor, lambda there")
    streaming: float = Field(
        0.2, gt=0, le=1, description="share of a step in a group's running loss, mu there"
    )
    step_size: float = Field(0.2, ge=0, description="of the groups' weights, eta_w there")
    late: float = Field(0.2, ge=0, description="how much more later periods count, p there")


SEARCH = tuple({"content_weight": weight, "shift": shift} for weight in (0.1, 0.5) for shift in (0.1, 0.5))
"""what the paper tunes, and the weight of the model below"""


class TDRO(CLCRec):
    """CLCRec with groups; between the steps of a training it keeps their weights and running losses."""

    group: Tensor
    """[num_warm + 1] of each item"""
    weights: Tensor
    """[G]"""
    running: Tensor
    """[G] losses"""
    late: Tensor
    """[E] how much each period counts"""

    def __init__(self, content: npt.NDArray[np.float32], num_warm: int, settings: TDROSettings) -> None:
        """Take the text embeddings [N + 1, e] of all items, row 0 zero, and group the warm ones."""
        super().__init__(content, num_warm, settings)
        self.tdro = settings
        groups = min(settings.groups, num_warm)
        clusters = faiss.Kmeans(content.shape[1], groups, seed=0, min_points_per_centroid=1)
        warm = np.ascontiguousarray(content[1 : num_warm + 1])
        clusters.train(warm)
        found = np.concatenate([[0], clusters.index.search(warm, 1)[1][:, 0]])
        self.register_buffer("group", torch.from_numpy(found.astype(np.int64)), persistent=False)
        self.register_buffer("weights", torch.full((groups,), 1 / groups))
        self.register_buffer("running", torch.zeros(groups))
        late = torch.softmax(torch.exp(settings.late * torch.arange(settings.periods)), dim=0)
        self.register_buffer("late", late, persistent=False)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted loss of the groups (equations 7 to 10 there), and move their weights."""
        losses, regularisation = self.losses(items, lengths)
        rows, positives = positive_pairs(items, lengths)
        place = torch.nonzero((items > 0) & (lengths > 1)[:, None])[:, 1]
        period = place * self.tdro.periods // lengths[rows]
        groups, groups_of = len(self.weights), self.group[positives]
        cell = groups_of * self.tdro.periods + period
        members = torch.zeros(groups * self.tdro.periods, len(losses), device=items.device)
        members[cell, torch.arange(len(losses), device=items.device)] = 1.0
        trend = self._trend(losses, members)
        sizes = members.view(groups, self.tdro.periods, -1).sum(dim=(1, 2))
        mean = torch.zeros(groups, device=items.device).index_add(0, groups_of, losses) / sizes.clamp(min=1)
        now = (1 - self.tdro.shift) * mean + self.tdro.shift * trend
        now = torch.where(sizes > 0, now, self.running)
        running = (1 - self.tdro.streaming) * self.running + self.tdro.streaming * now
        with torch.no_grad():
            self.weights = self.weights * torch.exp(self.tdro.step_size * running)
            self.weights /= self.weights.sum()
            self.running = running.detach()
        weighted: Tensor = (self.weights * running).sum() + regularisation
        return weighted

    def _trend(self, losses: Tensor, members: Tensor) -> Tensor:
        """Return [G] how well each group's gradient goes with the late periods' (the shifting factor).

        members [G E, S] says which interactions are of which group and period. As in the paper's code the gradient is that
        of the content encoder's last layer, of length 1 times the loss to the power p.
        """
        (gradients,) = torch.autograd.grad(
            losses, self.last.weight, members, retain_graph=True, is_grads_batched=True
        )
        flat = gradients.flatten(1)
        level = (members @ losses.detach()) / members.sum(dim=1).clamp(min=1)
        directed = torch.nn.functional.normalize(flat, dim=1, eps=1e-16) * level[:, None] ** self.tdro.late
        by_group = directed.view(len(self.weights), self.tdro.periods, -1)
        towards = (by_group * self.late[None, :, None]).mean(dim=(0, 1))
        alignment: Tensor = by_group.mean(dim=1) @ towards
        return alignment
