"""Amazon Reviews 2018: CATEGORY[_5].json.gz and meta_CATEGORY.json.gz, JSON lines."""

from collections.abc import Iterator

from coldray.data.readers import amazon
from coldray.data.readers.base import Batch, Reader, Unit
from coldray.data.readers.text import record_batches
from coldray.data.recipe import Recipe

FIELDS = amazon.text_fields("asin", ("title", "brand", "category", "description", "feature", "price"))


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    return record_batches(unit[0], FIELDS)


READER = Reader(
    amazon.find,
    amazon.reviews("reviewerID", "asin", "overall", "unixReviewTime"),
    _items,
    repeated_items=True,  # the published metadata holds some products twice
)
