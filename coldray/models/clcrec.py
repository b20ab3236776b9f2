"""CLCRec (Wei et al., 2021, MM): an item's content is pulled towards its collaborative vector, by contrast with other items.

Cold items are ranked by what their content is mapped to. The paper has a vector for each user; here a user is the mean of the
vectors of the items taken, the one in question left out, so that histories of people who were not trained on can be ranked.

Shapes: B sequences, L items, S their interactions, M negatives, N items of the catalogue, d the size of the vectors.
"""

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from coldray.models.baselines import HistoryAverage
from coldray.settings import Settings


class CLCRecSettings(Settings):
    """The settings of the paper's code, but for fewer negatives, which a whole batch shares here."""

    dim: int = Field(64, ge=1)
    hidden: int = Field(256, ge=1, description="width of the content encoder")
    temperature: float = Field(0.1, gt=0)
    content_weight: float = Field(
        0.1,
        ge=0,
        le=1,
        description="of content against collaborative vectors; the rest is users against items",
    )
    content_share: float = Field(
        0.5, ge=0, le=1, description="of items that stand for themselves by their content"
    )
    regularisation: float = Field(0.1, ge=0, description="of the mean length of vectors")
    negatives: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    batch_size: int = Field(128, ge=1, description="sequences")
    max_epochs: int = Field(100, ge=1)
    patience: int = Field(10, ge=1, description="epochs without a better validation NDCG@10")


SEARCH = tuple(
    {"temperature": temperature, "content_weight": weight}
    for temperature in (0.1, 0.2)
    for weight in (0.1, 0.5)
)
"""what the paper tunes"""


class CLCRec(nn.Module):
    """The model."""

    content: Tensor
    """[N + 1, e]"""
    stages = ("train",)

    def __init__(self, content: npt.NDArray[np.float32], num_warm: int, settings: CLCRecSettings) -> None:
        """Take the text embeddings [N + 1, e] of all items, row 0 zero."""
        super().__init__()
        self.settings, self.num_warm = settings, num_warm
        self.register_buffer("content", F.normalize(torch.from_numpy(content), dim=1), persistent=False)
        self.items = nn.Parameter(torch.empty(num_warm + 1, settings.dim))
        self.taken = nn.Parameter(torch.empty(num_warm + 1, settings.dim))
        for table in (self.items, self.taken):
            nn.init.xavier_normal_(table)
        self.first = nn.Linear(content.shape[1], settings.hidden)
        self.last = nn.Linear(settings.hidden, settings.dim)

    def begin(self, stage: str) -> list[nn.Parameter]:
        """Return what is trained: all."""
        return list(self.parameters())

    def features(self, items: Tensor) -> Tensor:
        """Return [n, d] what the content of items [n] is mapped to."""
        mapped: Tensor = self.last(F.leaky_relu(self.first(self.content[items])))
        return mapped

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss over the interactions of sequences [B, L] padded with 0 on the right."""
        losses, regularisation = self.losses(items, lengths)
        return losses.mean() + regularisation

    def losses(self, items: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss [S] of each interaction in sequences of two items or more, and the penalty on lengths."""
        rows, positives = positive_pairs(items, lengths)
        s = self.settings
        taken = self.taken[items] * (items > 0)[..., None]
        users = (taken.sum(dim=1)[rows] - self.taken[positives]) / (lengths[rows] - 1)[:, None]
        drawn = torch.randint(1, self.num_warm + 1, (s.negatives,), device=items.device)
        own, features = self.items[positives], self.features(torch.cat([positives, drawn]))
        of_positives, of_negatives = features[: len(positives)], features[len(positives) :]
        align = contrast(
            F.normalize(own, dim=1),
            F.normalize(of_positives, dim=1),
            F.normalize(of_negatives, dim=1),
            s.temperature,
        )
        swap = torch.rand(len(features), 1, device=items.device) < s.content_share
        shown = torch.where(swap, features, torch.cat([own, self.items[drawn]]))
        prefer = contrast(users, shown[: len(positives)], shown[len(positives) :], s.temperature)
        lengths_of = (users.norm(dim=1).mean() + own.norm(dim=1).mean()) / 2
        return s.content_weight * align + (1 - s.content_weight) * prefer, s.regularisation * lengths_of

    @torch.no_grad()
    def scorer(self) -> HistoryAverage:
        """Return what ranks the catalogue: warm items by their vectors, cold ones by what their content is mapped to."""
        self.eval()
        everything = torch.arange(len(self.content), device=self.items.device)
        table = self.features(everything)
        table[: self.num_warm + 1] = self.items
        inputs = torch.zeros_like(table)
        inputs[1 : self.num_warm + 1] = self.taken[1:]
        return HistoryAverage(inputs, table)


def positive_pairs(items: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and item [S] of each interaction in the sequences [B, L] that have two or more, row by row."""
    rows, places = torch.nonzero((items > 0) & (lengths > 1)[:, None], as_tuple=True)
    return rows, items[rows, places]


def contrast(anchors: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return [S] the InfoNCE loss of anchors [S, d] with their positives [S, d] and shared negatives [M, d]."""
    own = (anchors * positives).sum(dim=1, keepdim=True)
    logits = torch.cat([own, anchors @ negatives.T], dim=1) / temperature
    return -logits.log_softmax(dim=1)[:, 0]
