"""KALM4Rec (Kieu et al., 2025, WWW): keywords retrieve candidates, and a model ranks them with their keywords.

The paper takes noun phrases of reviews; here keywords are the words and pairs of words of an item's texts with the largest
TF-IDF weight, which any catalogue has. A person's keywords are those with the largest sums over the history, and an item is
retrieved by the sum of its weights for them, as in the paper. Its prompt without examples is used.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.method import Lister, Model, Person, Recommended

_SHOWN = 5
"""keywords of a candidate in the prompt"""


class KALM4Rec:
    """A `Method`."""

    def __init__(self, model: Model, catalogue: Catalogue) -> None:
        """Find the keywords of all items."""
        self.settings = model.settings
        self.lister = Lister(model, catalogue, "rank_by_keywords")
        self.words, self.weights = keywords(catalogue.texts, self.settings.keywords)

    async def recommend(self, person: Person, seed: int) -> Recommended:
        """Return ten of the items that the person's keywords retrieve."""
        wanted = self.of(person.history, self.settings.keywords)
        candidates = self.retrieve(wanted, person)
        notes = [", ".join(self.words[self.of([item], _SHOWN)]) for item in candidates]
        slots = {"keywords": self.words[wanted].tolist()}
        return await self.lister.recommend(person, candidates, seed, slots, notes)

    def of(self, items: list[int], most: int) -> npt.NDArray[np.int64]:
        """Return the keywords of items together, at most so many, heaviest first."""
        total = np.asarray(self.weights[items].sum(axis=0)).ravel()
        order = np.lexsort((np.arange(len(total)), -total))[:most]
        heaviest: npt.NDArray[np.int64] = order[total[order] > 0]
        return heaviest

    def retrieve(self, wanted: npt.NDArray[np.int64], person: Person) -> list[int]:
        """Return the items with the largest weights for keywords, none of the history."""
        scores = np.asarray(self.weights[:, wanted].sum(axis=1)).ravel()
        scores[[0, *person.seen]] = -1.0
        order = np.lexsort((np.arange(len(scores)), -scores))[: self.settings.keyword_candidates]
        return [int(item) for item in order if scores[item] >= 0]


def keywords(texts: list[str], most: int) -> tuple[npt.NDArray[np.object_], sp.csr_matrix]:
    """Return the vocabulary [V] and the weights [n, V] of texts, of each the `most` largest."""
    vectorizer = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    try:
        weights = vectorizer.fit_transform(texts).tocsr()
    except ValueError:  # no word stands in two texts: nothing connects these items
        return np.array(["-"], object), sp.csr_matrix((len(texts), 1))
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    order = np.lexsort((weights.indices, -weights.data, rows))
    place = np.arange(len(order)) - np.repeat(weights.indptr[:-1], np.diff(weights.indptr))
    weights.data[order[place >= most]] = 0
    weights.eliminate_zeros()
    return vectorizer.get_feature_names_out(), weights
