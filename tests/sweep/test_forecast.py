"""What a comparison will take is told from a few users."""

import pytest

from coldray.errors import UserError
from coldray.sweep.forecast import forecast
from coldray.sweep.run import run_sweep
from coldray.sweep.validate import read_sweep, validate


@pytest.mark.ray
def test_a_sample_of_all_users_foretells_what_the_comparison_takes(
    ray_session, mlflow_uri, asking_settings, tmp_path
):
    said = []
    changes = {"methods": ("popularity", "llm", "taxrec", "coldrag"), "zeroshot": {"growth": 2}}
    settings = asking_settings(**changes)
    made = {found.what: found for found in forecast(settings, 20, say=said.append)}
    outcome = run_sweep(settings, str(tmp_path / "runs"), mlflow_uri, say=said.append)
    assert not outcome.failed
    with read_sweep(mlflow_uri, outcome.run_id) as record:
        results, left_out = validate(record)
    assert not left_out
    for method in ("llm", "coldrag"):
        of = [found.asked for found in results if found.cell.method == method and not found.cell.varied]
        assert made[method].prompt_tokens == sum(
            sum(asked.table["prompt_tokens"].to_pylist()) for asked in of
        )
    assert made["coldrag, growing graph"] == made["coldrag"].times(3, "coldrag, growing graph")
    assert set(made) == {"llm", "taxrec", "coldrag", "coldrag, growing graph"}
    assert "llm: 15 users asked" in said


@pytest.mark.ray
def test_a_part_of_the_users_stands_for_all(ray_session, asking_settings, llm_address):
    settings = asking_settings(methods=("popularity", "llm"), seeds=(1, 2, 3))
    before = len(llm_address.asked)
    (found,) = forecast(settings, 5, say=lambda line: None)
    assert len(llm_address.asked) - before == 10  # five users of two seeds, the second for the third as well
    (whole,) = forecast(settings, 15, say=lambda line: None)
    assert found.prompt_tokens == pytest.approx(whole.prompt_tokens, rel=0.1)
    assert found.cost == 0


def test_a_sweep_that_asks_nobody_has_nothing_to_foretell(tiny_settings):
    with pytest.raises(UserError, match="asks no language model"):
        forecast(tiny_settings(methods=("delta",)), 5)
