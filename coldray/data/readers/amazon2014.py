"""Amazon Reviews 2014: reviews_CATEGORY[_5].json.gz in JSON, meta_CATEGORY.json.gz in Python literals."""

import ast
from collections.abc import Iterator

from coldray.data.readers import amazon
from coldray.data.readers.base import Batch, Reader, Unit
from coldray.data.readers.text import record_batches
from coldray.data.recipe import Recipe

FIELDS = amazon.text_fields("asin", ("title", "brand", "categories", "description", "price"))


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    return record_batches(unit[0], FIELDS, ast.literal_eval)


READER = Reader(amazon.find, amazon.reviews("reviewerID", "asin", "overall", "unixReviewTime"), _items)
