"""A split within a split, in which some warm items are cold: what can be learned of cold items from training data alone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from coldray.data.dataset import Int32, Sequences, Split
from coldray.errors import UserError
from coldray.settings import digest


def pseudo_cold_split(split: Split, fraction: float, part: int, seed: int = 42) -> Split:
    """Return `split` with a seeded `fraction` of its warm items taken out of all training sequences.

    They are its cold items; those of other parts 0, 1, ... are others. The real cold items and the test users of
    `split` are not in it: its test users are the validation users of `split`, its validation users those of them
    whose target is still warm. Raises UserError where there are too few warm items for such a part.
    """
    size = max(1, round(fraction * split.num_warm))
    drawn = np.random.default_rng(seed).permutation(split.num_warm) + 1
    if (part + 1) * size >= split.num_warm:
        raise UserError(
            f"pseudo_cold: {fraction} of {split.num_warm} warm items leaves none for part {part}; lower it"
        )
    cold = np.sort(drawn[part * size : (part + 1) * size])
    warm = np.setdiff1d(np.arange(1, split.num_warm + 1), cold)
    order = np.concatenate([warm, cold])
    index = np.zeros(split.num_warm + 1, np.int32)
    index[order] = np.arange(1, len(order) + 1)

    train, test = _renumbered(split.train, index), _renumbered(split.validation, index)
    train = train.without_cold(len(warm))
    validation = test.take(np.flatnonzero(np.asarray(test.targets) <= len(warm))).without_cold(len(warm))
    counts = split.train_counts[: split.num_warm + 1][np.concatenate([[0], order])].copy()
    counts[len(warm) + 1 :] = 0
    return Split(
        name=f"{split.name}, pseudo-cold {part}",
        fingerprint=digest([split.fingerprint, "pseudo-cold", fraction, part, seed]),
        item_ids=split.item_ids.take(pa.array(order - 1)),
        num_warm=len(warm),
        train_counts=counts,
        train=train,
        validation=validation.take(np.flatnonzero(validation.lengths)),
        test=test,
    )


def _renumbered(sequences: Sequences, index: Int32) -> Sequences:
    """Return `sequences` with each item's new index."""
    targets = None if sequences.targets is None else index[sequences.targets]
    return replace(sequences, items=index[sequences.items], targets=targets)
