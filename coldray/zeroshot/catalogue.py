"""The catalogue as training-free methods see it: titles by item index, and the one rule by which written titles are matched."""

import re
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldray.data import columns as c
from coldray.encode.text import clean
from coldray.errors import UserError
from coldray.llm.prompt import one_line

_LEADING = re.compile(r"^\s*(?:[-*•]+\s+|\(?\d{1,3}\s*[.):\]-]\s*)?")
_WORDS = re.compile(r"\w+")
_LEAST_WORDS = 3
"""of the beginning of a title that stands for the title"""


@dataclass(frozen=True)
class Catalogue:
    """Titles and texts of a split's items."""

    item_ids: list[str]
    """[n + 1], "" for the padding"""
    titles: list[str]
    """[n + 1] on one line; the id where there is none"""
    texts: list[str]
    """[n + 1] what else is said of the item, title first"""
    _keys: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, table: pa.Table, item_ids: pa.Array, columns: tuple[str, ...]) -> "Catalogue":
        """Return the rows of the catalogue `table` for the items of a split, in their order.

        Raises UserError if the catalogue has no titles, or lacks an item.
        """
        if "title" not in table.column_names:
            raise UserError(
                "the catalogue has no column title, which models are shown; prepare the data with one"
            )
        rows = pc.index_in(item_ids, value_set=table[c.ITEM].cast(pa.string()).combine_chunks())
        if rows.null_count:
            missing = item_ids.filter(pc.is_null(rows))[0]
            raise UserError(
                f"the catalogue has no item {missing}, which the split has; prepare the data anew"
            )
        known = ["title", *(name for name in columns if name in table.column_names and name != "title")]
        taken = table.select(known).take(rows).to_pylist()
        ids = item_ids.to_pylist()
        titles = [one_line(clean(row["title"])) or item for row, item in zip(taken, ids, strict=True)]
        texts = [" ".join(one_line(clean(row[name])) for name in known) for row in taken]
        keys = sorted((key, place + 1) for place, title in enumerate(titles) if (key := key_of(title)))
        return cls(["", *ids], ["", *titles], ["", *texts], keys)

    def __len__(self) -> int:
        return len(self.titles) - 1

    def shown(self, items: list[int], characters: int) -> list[str]:
        """Return the titles of items as prompts have them, of at most so many characters, cut between words."""
        return [cut(self.titles[item], characters) for item in items]

    def match(self, written: str, among: list[int]) -> int:
        """Return the item that a written title means, 0 where it means none: then a model made it up.

        Case, punctuation, a number or bullet before it do not count. It means the item whose title it is, or whose title
        begins with it or it begins with, where that is three words or more and no other item's title does so too. Of items
        with the same title it is the one of `among`, else the first.
        """
        key = key_of(written)
        if not key:
            return 0
        same = self._beginning(key, whole=True)
        if not same and len(key.split()) >= _LEAST_WORDS:
            same = self._beginning(key, whole=False) or self._begun_by(key)
            if len({self.titles[item] for item in same} if same else set()) > 1:
                offered = [item for item in same if item in among]
                same = offered if len(offered) == 1 else []
        return next((item for item in same if item in among), same[0] if same else 0)

    def _beginning(self, key: str, whole: bool) -> list[int]:
        """Return the items whose titles are `key`, or begin with it."""
        found = []
        for place in range(bisect_left(self._keys, (key, 0)), len(self._keys)):
            title, item = self._keys[place]
            if title != key and (whole or not title.startswith(key + " ")):
                if not title.startswith(key):
                    break
                continue
            found.append(item)
        return found

    def _begun_by(self, key: str) -> list[int]:
        """Return the items whose title, of three words or more, `key` begins with, the longest."""
        words = key.split()
        for count in range(len(words) - 1, _LEAST_WORDS - 1, -1):
            if found := self._beginning(" ".join(words[:count]), whole=True):
                return found
        return []


def key_of(title: str) -> str:
    """Return a title's words in lower case, without what stands before it in a list."""
    return " ".join(_WORDS.findall(_LEADING.sub("", title, count=1).casefold()))


def cut(text: str, characters: int) -> str:
    """Return `text`, or its beginning of at most so many characters, cut between words."""
    return text if len(text) <= characters else text[: characters + 1].rsplit(" ", 1)[0][:characters]


def drawn(num_items: int, history: npt.NDArray[np.int32], number: int, seed: int, user: int) -> list[int]:
    """Return `number` items drawn for a user from all but those of the history; for the same seed always the same."""
    others = np.setdiff1d(np.arange(1, num_items + 1), history)
    rng = np.random.default_rng([seed, user])
    return [int(item) for item in rng.permutation(others)[:number]]
