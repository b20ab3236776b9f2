"""Item embeddings: text of an item, its vector from a sentence model or as given, reduction."""

from coldray.encode.embeddings import load_embeddings
from coldray.encode.reduce import Reducer, fit_reducer, item_vectors
from coldray.encode.text import TextRecipe

__all__ = ["Reducer", "TextRecipe", "fit_reducer", "item_vectors", "load_embeddings"]
