"""Baselines without gradient training, as scorers: popularity, item-KNN by users or by content, history average."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from coldray.data.dataset import Sequences

CPU = torch.device("cpu")


class Popularity:
    """Scores an item by its number of training interactions, for everybody."""

    max_length = 1
    device = CPU

    def __init__(self, train_counts: npt.NDArray[np.int64]) -> None:
        """Take train_counts [num_items + 1]."""
        self.num_items = len(train_counts) - 1
        self._scores = torch.from_numpy(train_counts.astype(np.float32))

    def encode(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return [B]; nothing is known of a user."""
        return lengths

    def scores(self, users: Tensor) -> Tensor:
        """Return scores [B, num_items + 1]."""
        return self._scores.repeat(len(users), 1)


class HistoryAverage:
    """Scores an item by the inner product of its embedding with the mean embedding of the history (methods of the
    content-based baseline that Let-It-Go compares with)."""

    max_length = 1 << 30

    def __init__(self, content: Tensor, items: Tensor | None = None) -> None:
        """Take content [num_items + 1, d], row 0 zero, and the vectors of the items to rank where they are others."""
        self.num_items = len(content) - 1
        self.device = content.device
        self._content = content
        self._items = content if items is None else items

    def encode(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean embeddings [B, d], zero for an empty history."""
        return self._content[histories].sum(dim=1) / lengths.clamp(min=1)[:, None]

    def scores(self, users: Tensor) -> Tensor:
        """Return scores [B, num_items + 1]."""
        return users @ self._items.T


class ItemKNN:
    """Scores an item by its summed similarity to the history's items (Sarwar et al., 2001).

    Of each item the `k` largest similarities are kept.
    """

    max_length = 1 << 30
    device = CPU

    def __init__(self, similarity: sp.csr_matrix) -> None:
        """Take the similarities [num_items + 1, num_items + 1] of the history's items (rows) to all."""
        self.num_items = similarity.shape[0] - 1
        self._similarity = similarity

    @classmethod
    def of_users(cls, train: Sequences, num_items: int, k: int = 100) -> "ItemKNN":
        """Return it with the cosine of two items' users in the training sequences."""
        rows = np.repeat(np.arange(len(train)), train.lengths)
        users = sp.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, train.items)), (len(train), num_items + 1)
        )
        users.data[:] = 1  # an item counts once a user
        norms = np.sqrt(np.asarray(users.sum(axis=0)).ravel())
        columns = (users @ sp.diags_array(1 / np.maximum(norms, 1), dtype=np.float32)).tocsc()
        blocks = [
            _largest((columns[:, start : start + 1024].T @ columns).tocsr(), start, k)
            for start in range(0, num_items + 1, 1024)
        ]
        return cls(sp.vstack(blocks, format="csr"))

    @classmethod
    def of_content(cls, content: npt.NDArray[np.float32], k: int = 100) -> "ItemKNN":
        """Return it with the cosine of two items' content [num_items + 1, e], row 0 zero: new items have it too."""
        unit = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12)
        blocks = [
            _largest(sp.csr_matrix(np.maximum(unit[start : start + 1024] @ unit.T, 0)), start, k)
            for start in range(0, len(unit), 1024)
        ]
        return cls(sp.vstack(blocks, format="csr"))

    def encode(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return the histories themselves."""
        return histories

    def scores(self, users: Tensor) -> Tensor:
        """Return scores [B, num_items + 1] for histories [B, L]."""
        batch, width = users.shape
        rows = np.repeat(np.arange(batch), width)
        entries = (np.ones(batch * width, np.float32), (rows, users.numpy().ravel()))
        seen = sp.csr_matrix(entries, (batch, self.num_items + 1))
        return torch.from_numpy((seen @ self._similarity).toarray())


def _largest(block: sp.csr_matrix, first: int, k: int) -> sp.csr_matrix:
    """Return `block`, rows of similarities from item `first` on, with the k largest of each row, itself left out."""
    block.setdiag(0, k=first)
    block.eliminate_zeros()
    order = np.lexsort(
        (block.indices, -block.data, np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)))
    )
    place = np.arange(len(order)) - np.repeat(block.indptr[:-1], np.diff(block.indptr))
    kept = np.zeros(len(order), bool)
    kept[order[place < k]] = True
    block.data[~kept] = 0
    block.eliminate_zeros()
    return block
