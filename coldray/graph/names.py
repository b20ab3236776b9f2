"""Names of entities: which of them mean the same, and the number that stands for each."""

import hashlib
import re
import unicodedata

_APART = re.compile(r"[\W_]+")
# English plurals by their ending, longest first; what stays alone is not one.
_SAME = ("ss", "us", "is")


def normalise(name: str) -> str:
    """Return what is common to all spellings of a name: case, accents' encoding, punctuation, spaces and English plurals.

    "Board-Games " and "board game" are one; "" is a name of signs alone.
    """
    words = _APART.sub(" ", unicodedata.normalize("NFKC", name).casefold()).split()
    return " ".join(map(_singular, words))


def _singular(word: str) -> str:
    if not word.isascii() or len(word) < 4 or not word.endswith("s") or word.endswith(_SAME):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def number(*parts: str) -> int:
    """Return a number of 64 bits, signed, that stands for `parts`."""
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(joined).digest()[:8], "little", signed=True)


def entity_id(kind: str, name: str) -> int:
    """Return the number of the entity of a type with this name, however it is spelt."""
    return number("entity", kind, normalise(name))


def item_entity_id(item_id: str) -> int:
    """Return the number of the entity that an item is: by its id, as two items may have one title."""
    return number("item", item_id)


def relation_id(head: int, tail: int) -> int:
    """Return the number of the relation between two entities, whichever comes first."""
    return number("relation", str(min(head, tail)), str(max(head, tail)))
