from hypothesis import given
from hypothesis import strategies as st

from coldray.graph.store.merge import hash_of, merged, text_of
from coldray.graph.store.tables import SAMPLE

# Twelve items, each saying one of a few things of one entity.
histories = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([None, "a", "b", "c"])), max_size=40)


def mention(item, text):
    row = {"item_id": str(item), "entity": 1, "type": "feature", "name": f"n{text}", "description": text}
    return row | {"hash": hash_of(row, "entity")}


def apply(row, there, new):
    """Put `new` in the place of what its item said; return the row and the mentions."""
    item, text = new
    gone = [there.pop(item)] if item in there else []
    brought = [mention(item, text)] if text else []
    there |= {item: brought[0]} if brought else {}

    def refill(ids):
        assert ids == [1]
        return {1: sorted(there.values(), key=lambda made: made["hash"])[:SAMPLE]}

    rows = {1: row} if row else {}
    made = merged(rows, gone, brought, "entity", refill)
    return made.get(1, row), there


@given(histories)
def test_a_row_is_a_function_of_its_mentions_whatever_their_history(history):
    row, there = None, {}
    for new in history:
        row, there = apply(row, there, new)
    at_once = merged({}, [], list(there.values()), "entity", lambda ids: {}).get(1)
    assert row == at_once
    if row:
        assert row["mentions"] == len(there)
        assert len(row["sample"]) == min(SAMPLE, len(there))


def test_what_is_embedded_is_name_and_description():
    assert text_of({"name": "ink", "description": "blue"}) == "ink: blue"
    assert text_of({"name": "ink", "description": ""}) == "ink"
    assert text_of({"description": "of ink"}) == "of ink"
