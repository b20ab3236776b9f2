"""Numbers as text."""

import math

import pytest

from coldray.sweep import wording
from coldray.sweep.aggregate import Statistic


def test_numbers():
    assert wording.number(0.0012804) == "0.00128"
    assert wording.number(math.nan) == "–"
    assert wording.signed(-0.5) == "−0.50000"
    assert wording.signed(0.5) == "+0.50000"
    assert wording.spread(Statistic(0.17, 0.03, (0.17,))) == "0.17000 ± 0.03000"
    assert wording.spread(Statistic(0.17, math.nan, (0.17,))) == "0.17000 ± –"
    assert wording.spread(Statistic(math.nan, math.nan, ())) == "–"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "< 0.001"), (0.0123, "0.012"), (1.0, "1"), (math.nan, "–")]
)
def test_p_values(value, text):
    assert wording.p_value(value) == text


def test_a_chosen_transfer_is_told_by_what_differs_from_the_paper():
    from coldray.transfer import TransferSettings

    assert wording.chosen(None) == "none"
    assert wording.chosen(TransferSettings().model_dump(mode="json")) == "k 10"
    other = TransferSettings(k=3, gate=None, rescale=True, exposure=1.23456)
    assert wording.chosen(other.model_dump(mode="json")) == "k 3, rescale true, exposure 1.23, no gate"
    mixed = TransferSettings(space="text", also=({"space": "image", "scale": 0.51234},))
    said = "k 10, space text, and image scale 0.512 offset 0"
    assert wording.chosen(mixed.model_dump(mode="json")) == said


def test_nested_settings_are_named_by_dots():
    assert wording.flat({"gate": {"tau": 0.25}, "alpha": None}, "transfer") == {
        "transfer.gate.tau": "0.25",
        "transfer.alpha": "–",
    }
