"""Neighbours of several spaces in one softmax, against the mixture written out, and where a space knows nothing of an item."""

import numpy as np
import pytest
from pydantic import ValidationError

from coldray.transfer import (
    Gate,
    Modality,
    Neighbors,
    Spaces,
    TransferSettings,
    nearest_warm,
    pooled,
    propagate,
)

WARM, COLD = 40, 7


def table(seed: int, size: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(WARM + COLD + 1, size)).astype(np.float32)
    rows[0] = 0
    return rows


@pytest.fixture
def spaces() -> Spaces:
    return Spaces({"item_vectors": table(0, 6), "text": table(1, 9), "image": table(2, 4)}, WARM)


def cosines(rows: np.ndarray) -> np.ndarray:
    """Cosines [cold, warm] in double precision."""
    unit = rows.astype(np.float64)
    unit[1:] /= np.linalg.norm(unit[1:], axis=1, keepdims=True)
    return unit[WARM + 1 :] @ unit[1 : WARM + 1].T


def test_one_space_is_the_transfer_as_it_was(spaces) -> None:
    residuals = table(3, 5)[1 : WARM + 1]
    settings = TransferSettings(k=8, space="text", rescale=True)
    text = spaces.vectors["text"]
    alone = propagate(text[WARM + 1 :], text[1 : WARM + 1], residuals, settings)
    assert np.array_equal(spaces.transfer(residuals, settings).residuals, alone.residuals)


@pytest.mark.parametrize("gate", [None, Gate(tau=0.6, beta=8.0)])
def test_a_mixture_is_one_softmax_with_a_temperature_and_a_bias_in_each_space(gate, spaces) -> None:
    residuals = table(3, 5)[1 : WARM + 1].astype(np.float64)
    also = (Modality(space="image", scale=0.7, offset=0.2), Modality(space="text", scale=1.4))
    settings = TransferSettings(k=3 * WARM, temperature=0.1, gate=gate, also=also)
    found = spaces.neighbors(settings)
    made = propagate(
        np.ones((COLD, 1)),
        np.ones((WARM, 1)),
        residuals,
        settings.model_copy(update={"k": WARM}),
        neighbors=found,
    )
    counted = [cosines(spaces.vectors["item_vectors"])]
    counted += [1 - of.offset - of.scale * (1 - cosines(spaces.vectors[of.space])) for of in also]
    for item in range(COLD):
        pairs = sorted(
            ((max(-1.0, value), row) for part in counted for row, value in enumerate(part[item])),
            reverse=True,
        )[:WARM]
        weights = np.exp(np.array([value for value, _ in pairs]) / 0.1)
        weights /= weights.sum()
        g = 1.0 if gate is None else 1 / (1 + np.exp(-8 * (pairs[0][0] - 0.6)))
        wanted = g * weights @ residuals[[row for _, row in pairs]]
        assert made.residuals[item] == pytest.approx(wanted, abs=1e-9)


def test_an_item_is_given_by_the_space_that_knows_it(spaces) -> None:
    text = spaces.vectors["text"].copy()
    text[WARM + 1] = 0  # the first cold item has no text, the second has nothing else
    image = spaces.vectors["image"].copy()
    image[WARM + 2] = 0
    blind = Spaces({"item_vectors": text, "image": image}, WARM)
    settings = TransferSettings(k=5, also=(Modality(space="image"),))
    found = blind.neighbors(settings).first(5)
    for row, known in ((0, image), (1, text)):
        near = nearest_warm(known[WARM + 1 :], known[1 : WARM + 1], 5)
        assert np.array_equal(found.ids[row], near.ids[row])
    image[WARM + 1] = 0
    nothing = Spaces({"item_vectors": text, "image": image}, WARM).transfer(
        table(3, 5)[1 : WARM + 1], settings
    )
    assert nothing.gate[0] == 0
    assert not nothing.residuals[0].any()


def test_lists_are_pooled_in_order_and_within_bounds() -> None:
    first = Neighbors(np.array([[3, 1]], np.int32), np.array([[0.9, 0.2]]))
    other = Neighbors(np.array([[1, 7]], np.int32), np.array([[0.95, -0.9]]))
    both = pooled(first, [(other, 2.0, 0.0)])
    assert both.ids.tolist() == [[3, 1, 1, 7]]
    assert both.similarities[0] == pytest.approx([0.9, 0.9, 0.2, -1.0])


def test_neighbours_are_looked_for_once(spaces, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        "coldray.transfer.modalities.nearest_warm", lambda *args: calls.append(1) or nearest_warm(*args)
    )
    for k in (3, 5):
        spaces.neighbors(TransferSettings(k=k, also=(Modality(space="text"),)))
    assert len(calls) == 2


def test_a_space_is_named_once() -> None:
    with pytest.raises(ValidationError, match="also: text is looked in twice; name it once"):
        TransferSettings(space="text", also=(Modality(space="text"),))
    with pytest.raises(ValidationError, match="scale"):
        Modality(space="text", scale=0)
