import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.data.split import SplitSettings, core, make_split, notes
from coldray.errors import UserError


def table(sequences, times=None, parts=None) -> pa.Table:
    """Return interactions of {user: items}, with times or parts in the same form."""
    rows = [(user, item, i) for user, items in sequences.items() for i, item in enumerate(items)]
    users, items, positions = zip(*rows, strict=True)
    data = {"user_id": users, "item_id": items, "position": positions}
    if times is not None:
        data["timestamp"] = [time for user in sequences for time in times[user]]
    if parts is not None:
        data["part"] = [part for user in sequences for part in parts[user]]
    return pa.table({name: list(values) for name, values in data.items()}).take(
        np.random.default_rng(1).permutation(len(rows))  # order in the table must not count
    )


def named(split, part):
    """Return a part of a split as {user: (items, target)} by id."""
    ids = [None, *split.item_ids.to_pylist()]
    sequences = getattr(split, part)
    return {
        user: (
            [ids[i] for i in sequences.items[sequences.offsets[n] : sequences.offsets[n + 1]]],
            None if sequences.targets is None else ids[sequences.targets[n]],
        )
        for n, user in enumerate(sequences.users.to_pylist())
    }


SMALL = {"u1": "abcd", "u2": "bca", "u3": "ce", "u4": "abce"}


def test_leave_one_out() -> None:
    split = make_split(table(SMALL), SplitSettings(protocol="leave_one_out"))
    assert named(split, "train") == {
        "u1": (["a", "b"], None), "u2": (["b"], None), "u3": (["c", "e"], None), "u4": (["a", "b"], None),
    }  # fmt: skip
    assert named(split, "validation") == {
        "u1": (["a", "b"], "c"), "u2": (["b"], "c"), "u4": (["a", "b"], "c"),
    }  # fmt: skip
    assert named(split, "test") == {
        "u1": (["a", "b", "c"], "d"), "u2": (["b", "c"], "a"), "u4": (["a", "b", "c"], "e"),
    }  # fmt: skip
    assert split.item_ids.to_pylist() == ["a", "b", "c", "e", "d"]  # warm by id, then cold by id
    assert split.num_warm == 4
    assert split.train_counts.tolist() == [0, 2, 3, 1, 1, 0]


def test_leave_one_out_with_rare_items_cold() -> None:
    sequences = SMALL | {"u5": "bad"}
    split = make_split(table(sequences), SplitSettings(protocol="leave_one_out", cold_max_train=2))
    assert split.item_ids.to_pylist()[: split.num_warm] == ["a", "b"]
    assert named(split, "train").keys() == {"u1", "u2", "u4", "u5"}  # u3 had cold items only
    assert named(split, "validation") == {"u5": (["b"], "a")}  # the others' target is cold
    with pytest.raises(UserError, match="leave_one_out: no user is left for training"):
        make_split(table(SMALL), SplitSettings(protocol="leave_one_out", cold_max_train=9))


def test_least_frequent_fraction_is_cold() -> None:
    sequences = {f"u{i}": ["a", "b", "c", "a", "b"] for i in range(9)} | {"v": ["d", "a", "b", "c", "d"]}
    split = make_split(table(sequences), SplitSettings(protocol="leave_one_out", cold_fraction=0.25))
    assert split.item_ids.to_pylist()[split.num_warm :] == ["d"]
    assert named(split, "train")["v"] == (["a", "b"], None)
    assert named(split, "test")["v"] == (["d", "a", "b", "c"], "d")


def test_strict_cold_filters_before_the_validation_target_is_taken() -> None:
    sequences = {f"u{i}": [f"i{(i + j) % 10}" for j in range(8)] for i in range(20)}
    split = make_split(table(sequences), SplitSettings(protocol="strict_cold", cold_fraction=0.3, seed=1))
    cold = set(split.item_ids.to_pylist()[split.num_warm :])
    assert len(cold) == 3
    for user, items in sequences.items():
        warm = [item for item in items[:-1] if item not in cold]
        assert named(split, "validation")[user] == (warm[:-1], warm[-1])
        assert named(split, "train")[user] == (warm[:-1], None)
        assert named(split, "test")[user] == (items[:-1], items[-1])


def test_strict_cold_of_nothing() -> None:
    with pytest.raises(UserError, match=r"0\.01 of 5 items is none; raise --cold-fraction"):
        make_split(table(SMALL), SplitSettings(protocol="strict_cold", cold_fraction=0.01))


def temporal_data():
    sequences = {f"u{i:02}": list("abcd") for i in range(20)} | {"late": ["a", "rare", "b", "new", "c"]}
    times = {user: [1, 2, 3, 4] for user in sequences} | {"late": [1, 2, 90, 91, 92]}
    return sequences, times


def test_temporal() -> None:
    sequences, times = temporal_data()
    settings = SplitSettings(protocol="temporal", quantile=0.96)
    split = make_split(table(sequences, times), settings)
    assert settings.k_core == 3
    assert named(split, "test") == {"late": (["a", "rare", "b", "new"], "c")}
    assert split.item_ids.to_pylist() == ["a", "b", "c", "d", "new", "rare"]
    assert split.num_warm == 4
    assert (len(split.train), len(split.validation)) == (18, 2)  # `late` has too little before the threshold
    assert set(named(split, "validation").values().__iter__().__next__()[0]) == {"a", "b", "c"}
    assert not set(named(split, "train")) & set(named(split, "validation"))


def test_temporal_history_with_the_core_alone() -> None:
    sequences, times = temporal_data()
    split = make_split(table(sequences, times), SplitSettings(quantile=0.96, full_history=False))
    assert named(split, "test") == {"late": (["b", "new"], "c")}


def test_temporal_needs_times() -> None:
    with pytest.raises(UserError, match="no timestamps; use --protocol leave_one_out or strict_cold"):
        make_split(table(SMALL), SplitSettings())


def test_amazon_m2_takes_sessions_as_published() -> None:
    sequences = {f"s{i:02}": ["a", "b", "c"] for i in range(10)} | {"t1": ["a", "x", "y"], "t2": ["b", "a"]}
    parts = {user: ["train"] * 3 for user in sequences}
    parts |= {"t1": ["test", "test", "target"], "t2": ["test", "target"]}
    settings = SplitSettings(protocol="amazon_m2")
    split = make_split(table(sequences, parts=parts), settings)
    assert (len(split.train), len(split.validation)) == (8, 2)
    assert named(split, "test") == {"t1": (["a", "x"], "y"), "t2": (["b"], "a")}
    assert split.item_ids.to_pylist() == ["a", "b", "c", "x", "y"]
    with pytest.raises(UserError, match="no published test part"):
        make_split(table(SMALL), settings)


def test_the_fingerprint_is_of_content_settings_and_source() -> None:
    settings = SplitSettings(protocol="leave_one_out")
    first = make_split(table(SMALL), settings, "abc").fingerprint
    assert (
        make_split(table(dict(reversed(SMALL.items()))), settings, "abc", "other name").fingerprint == first
    )
    assert make_split(table(SMALL), settings, "abd").fingerprint != first
    assert make_split(table(SMALL), settings.model_copy(update={"seed": 1}), "abc").fingerprint != first
    assert make_split(table(SMALL | {"u2": "bcb"}), settings, "abc").fingerprint != first


def test_a_split_without_cold_items_says_so() -> None:
    split = make_split(table({f"u{i}": "abcab" for i in range(3)}), SplitSettings(protocol="leave_one_out"))
    assert split.num_cold == 0
    assert "no item is cold" in notes(split)[0]
    assert notes(make_split(table(SMALL), SplitSettings(protocol="leave_one_out"))) == []


def test_settings() -> None:
    assert SplitSettings(protocol="strict_cold").cold_fraction == 0.1
    assert SplitSettings(protocol="amazon_m2").train_fraction == 0.8
    with pytest.raises(ValidationError, match="no part in temporal"):
        SplitSettings(cold_fraction=0.1)


histories = st.dictionaries(
    st.integers(0, 40).map(str),
    st.lists(st.integers(0, 12).map(str), min_size=1, max_size=9),
    min_size=1,
    max_size=25,
)


@given(histories, st.integers(1, 4))
def test_the_core_is_that_of_brute_force(sequences, k) -> None:
    pairs = [(user, item) for user, items in sequences.items() for item in items]
    left = list(range(len(pairs)))
    while True:
        kept = [
            i
            for i in left
            if all(sum(pairs[j][side] == pairs[i][side] for j in left) >= k for side in (0, 1))
        ]
        if kept == left:
            break
        left = kept
    user, item = (np.unique([pair[side] for pair in pairs], return_inverse=True)[1] for side in (0, 1))
    mask = core(user, item, np.ones(len(pairs), dtype=bool), k)
    assert np.flatnonzero(mask).tolist() == left


@given(
    histories,
    st.sampled_from(["leave_one_out", "strict_cold", "temporal"]),
    st.integers(0, 3),
    st.integers(0, 5),
)
def test_nothing_leaks(sequences, protocol, k_core, seed) -> None:
    times = {user: list(range(int(user), int(user) + len(items))) for user, items in sequences.items()}
    fraction = {"cold_fraction": 0.3} if protocol == "strict_cold" else {}
    settings = SplitSettings(protocol=protocol, k_core=k_core, seed=seed, **fraction)
    try:
        split = make_split(table(sequences, times), settings)
    except UserError:
        return
    counts = np.bincount(split.train.items, minlength=split.num_items + 1)
    np.testing.assert_array_equal(split.train_counts, counts)
    assert (split.train_counts[1 : split.num_warm + 1] > 0).all()  # warm is trained
    assert (split.train_counts[split.num_warm + 1 :] == 0).all()  # cold never is
    assert not split.cold[split.validation.targets].any()
    assert not split.cold[split.validation.items].any()
    assert min(split.validation.lengths.min(), split.test.lengths.min(), split.train.lengths.min()) > 0
    everywhere = np.concatenate(
        [
            split.train.items,
            split.validation.items,
            split.validation.targets,
            split.test.items,
            split.test.targets,
        ]
    )
    assert set(everywhere.tolist()) == set(range(1, split.num_items + 1))
    ids = split.item_ids.to_pylist()
    assert ids[: split.num_warm] == sorted(ids[: split.num_warm])
    assert ids[split.num_warm :] == sorted(ids[split.num_warm :])
    train, validation = named(split, "train"), named(split, "validation")
    for user, (history, target) in named(split, "test").items():
        whole = sequences[user]
        if k_core <= 1 or protocol == "temporal":
            assert [*history, target] == list(whole)
        if protocol != "temporal":
            trained = train[user][0] if user in train else []
            assert (
                len(trained) + (user in validation) < len(history) + 1
            )  # the test target's row is not trained
    for user, (history, _) in validation.items():
        if protocol != "temporal":
            assert train[user][0] == history  # the validation target's row is not trained
        else:
            assert user not in train


def test_a_large_table_is_divided_in_seconds() -> None:
    rng = np.random.default_rng(0)
    n = 440_000
    users = np.sort(rng.integers(0, 50_000, n))
    starts = np.searchsorted(users, users)
    data = {
        "user_id": pa.array(users).cast(pa.string()),
        "item_id": pa.array(rng.zipf(1.3, n) % 17_000).cast(pa.string()),
        "position": np.arange(n) - starts,
        "timestamp": rng.integers(0, 10**9, n),
    }
    large = pa.table(data)
    begun = time.process_time()
    make_split(large, SplitSettings(protocol="leave_one_out"))
    make_split(large, SplitSettings(protocol="temporal"))
    assert time.process_time() - begun < 6
