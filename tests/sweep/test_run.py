import pytest

from coldray.errors import ServiceError, UserError
from coldray.sweep.run import load_sweep, run_sweep
from coldray.sweep.validate import read_sweep, validate

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]


def test_a_sweep_runs_reports_and_is_not_run_twice(tiny_settings, ray_session, mlflow_uri, tmp_path) -> None:
    settings = tiny_settings(name="whole")
    said: list[str] = []
    outcome = run_sweep(settings, str(tmp_path), mlflow_uri, say=said.append)
    assert (outcome.finished, outcome.failed) == (8, {})
    assert "8 of 8 cells" in said[0]
    with read_sweep(mlflow_uri, outcome.run_id) as record:
        results, left_out = validate(record)
    assert (len(results), left_out) == (8, [])
    assert (
        "delta+knn+gate"
        in (tmp_path / "reports" / outcome.report.record.spec.sweep_id / "report.html").read_text()
    )
    again = run_sweep(
        load_sweep(str(tmp_path), "whole")[0], str(tmp_path), mlflow_uri, resume=True, say=said.append
    )
    assert "0 of 8 cells" in said[1]
    assert again.run_id == outcome.run_id


def test_a_sweep_that_chooses_its_transfer_is_counted_and_told(
    tiny_settings, ray_session, mlflow_uri, tmp_path
) -> None:
    selection = {"trials": 5, "pseudo_cold": 0.2}
    settings = tiny_settings(
        name="chosen", methods=("delta", "delta+knn+gate", "delta+selected"), k=(3,), selection=selection
    )
    outcome = run_sweep(settings, str(tmp_path), mlflow_uri, say=lambda _: None)
    assert (outcome.finished, outcome.failed) == (6, {})
    with read_sweep(mlflow_uri, outcome.run_id) as record:
        results, left_out = validate(record)
    assert (len(results), left_out) == (6, [])
    chosen = [result.selection for result in results if result.selection is not None]
    assert len(chosen) == 2
    assert chosen[0] == chosen[1]
    folder = tmp_path / "reports" / outcome.report.record.spec.sweep_id
    assert "Selected transfers" in (folder / "report.html").read_text()
    assert (folder / "trade-off.png").exists()
    assert "delta+selected" in outcome.report.headline


def test_what_fails_is_told_and_the_rest_goes_on(tiny_settings, ray_session, mlflow_uri, tmp_path) -> None:
    from coldray import storage
    from coldray.sweep.grid import make_cells

    settings = tiny_settings(name="partly")
    broken = make_cells(settings)[0]
    state = tmp_path / "backbones" / str(broken.backbone_id) / "state.safetensors"
    storage.write_bytes(state, b"broken")
    outcome = run_sweep(settings, str(tmp_path), mlflow_uri, say=lambda _: None)
    assert outcome.finished == 5
    assert "delete it to start anew" in outcome.failed["delta seed=42"]
    assert (
        outcome.failed["delta+knn+gate K=3 seed=42"] == "what it shares with other cells could not be trained"
    )
    state.unlink()
    assert run_sweep(settings, str(tmp_path), mlflow_uri, say=lambda _: None).finished == 8


def test_what_cannot_be_run_is_told_before_anything_starts(
    tiny_settings, ray_session, mlflow_uri, tmp_path
) -> None:
    runs = str(tmp_path)
    with pytest.raises(UserError, match="no sweep nothing"):
        load_sweep(runs, "nothing")
    said: list[str] = []
    with pytest.raises(UserError, match="no node has them"):
        run_sweep(tiny_settings(resources={"cpus": 99}, k=(3, 77)), runs, mlflow_uri, say=said.append)
    assert said == ["warning: k: 77: above the 40 warm items; all of them are taken as neighbours"]
    with pytest.raises(UserError, match="coldray data split"):
        run_sweep(tiny_settings(split="gone"), runs, mlflow_uri, say=lambda _: None)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9"):
        run_sweep(tiny_settings(), runs, "http://127.0.0.1:9", say=lambda _: None)


def test_a_name_used_again_is_the_newer_sweep(tiny_settings, ray_session, mlflow_uri, tmp_path) -> None:
    runs = str(tmp_path)
    with pytest.raises(UserError, match="no node has them"):  # it has begun, and is not finished
        run_sweep(tiny_settings(name="twice", resources={"cpus": 99}), runs, mlflow_uri, say=lambda _: None)
    newer = tiny_settings(name="twice", methods=("popularity", "item-knn"), baseline="popularity", seeds=(1,))
    outcome = run_sweep(newer, runs, mlflow_uri, say=lambda _: None)
    assert (outcome.finished, outcome.failed) == (2, {})
    settings, record = load_sweep(runs, "twice")
    assert settings == newer
    assert record["sweep_id"] == outcome.report.record.spec.sweep_id
