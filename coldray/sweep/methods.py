"""The methods that a sweep can run, by what they need."""

from typing import Literal

Method = Literal[
    "sasrec",
    "content-init",
    "delta",
    "delta+knn",
    "delta+knn+gate",
    "delta+selected",
    "history-average",
    "content-knn",
    "popularity",
    "item-knn",
    "unisrec",
    "clcrec",
    "tdro",
    "llm",
    "llmrank-sequential",
    "llmrank-recency",
    "llmrank-in-context",
    "taxrec",
    "kalm4rec",
    "coldrag",
    "coldrag-constrained",
    "coldrag-nearest",
]
TRAINED: dict[Method, Literal["sasrec", "content-init", "delta"]] = {
    "sasrec": "sasrec",
    "content-init": "content-init",
    "delta": "delta",
    "delta+knn": "delta",
    "delta+knn+gate": "delta",
    "delta+selected": "delta",
}
"""the variant that each trained method's backbone is"""
TRANSFERRING: tuple[Method, ...] = ("delta+knn", "delta+knn+gate")
"""methods that transfer with the settings of the file, at each K"""
SELECTING: Method = "delta+selected"
"""the method that transfers with settings that it chooses itself, on pseudo-cold items"""
TO_COLD: tuple[Method, ...] = (*TRANSFERRING, SELECTING)
CONTENT: tuple[Method, ...] = ("unisrec", "clcrec", "tdro")
"""baselines that are trained to map content to recommendations"""
WALKING: tuple[Method, ...] = ("coldrag", "coldrag-constrained", "coldrag-nearest")
"""methods that need the graph"""
ASKING: tuple[Method, ...] = (
    "llm",
    "llmrank-sequential",
    "llmrank-recency",
    "llmrank-in-context",
    "taxrec",
    "kalm4rec",
    *WALKING,
)
"""methods that ask a language model"""
NEEDS_EMBEDDING: tuple[Method, ...] = (
    "content-init",
    "delta",
    *TO_COLD,
    "history-average",
    "content-knn",
    *CONTENT,
)
REDUCED: tuple[Method, ...] = (*TRAINED, "history-average")
"""methods with item vectors of the encoder's size"""
