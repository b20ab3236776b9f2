"""Readers of published formats: each turns raw files into batches of interactions and of items."""

from coldray.data.readers import (
    amazon2014,
    amazon2018,
    amazon2023,
    amazon_m2,
    movielens,
    recbole,
    table,
    zvuk,
)
from coldray.data.readers.base import Reader

READERS: dict[str, Reader] = {
    "amazon2014": amazon2014.READER,
    "amazon2018": amazon2018.READER,
    "amazon2023": amazon2023.READER,
    "amazon_m2": amazon_m2.READER,
    "movielens": movielens.READER,
    "recbole": recbole.READER,
    "table": table.READER,
    "zvuk": zvuk.READER,
}
