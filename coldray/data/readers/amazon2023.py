"""Amazon Reviews 2023: CATEGORY.jsonl.gz and meta_CATEGORY.jsonl.gz; the item is the parent product.

Timestamps are in milliseconds since 1970, as published.
"""

from collections.abc import Iterator

from coldray.data.readers import amazon
from coldray.data.readers.base import Batch, Reader, Unit
from coldray.data.readers.text import record_batches
from coldray.data.recipe import Recipe

FIELDS = amazon.text_fields(
    "parent_asin",
    ("title", "store", "main_category", "categories", "features", "description", "details", "price"),
)


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    return record_batches(unit[0], FIELDS)


READER = Reader(amazon.find, amazon.reviews("user_id", "parent_asin", "rating", "timestamp"), _items)
