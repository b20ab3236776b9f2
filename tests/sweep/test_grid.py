import pytest

from coldray.errors import UserError
from coldray.sweep.artifacts import SweepSpec
from coldray.sweep.grid import check_unchanged, make_cells, sweep_record


def test_seeds_by_k_with_one_backbone_a_seed(tiny_settings) -> None:
    cells = make_cells(tiny_settings())
    assert len(cells) == len({cell.cell_id for cell in cells}) == 2 + 2 * 2 + 2
    assert [cell.method for cell in cells[:2]] == ["delta", "delta"]
    transferring = [cell for cell in cells if cell.k]
    assert {(cell.seed, cell.k) for cell in transferring} == {(s, k) for s in (42, 43) for k in (3, 5)}
    assert {cell.backbone_id for cell in transferring} == {cell.backbone_id for cell in cells[:2]}
    assert len({cell.backbone_id for cell in cells if cell.backbone_id}) == 2


def test_identity_is_what_the_result_depends_on(tiny_settings) -> None:
    def ids(**changes):
        return {cell.cell_id for cell in make_cells(tiny_settings(**changes))}

    assert ids() == ids(name="other", share_backbones=False, resources={"cpus": 2})
    assert ids() & ids(training={"learning_rate": 0.02}) == {
        cell.cell_id for cell in make_cells(tiny_settings()) if cell.method == "history-average"
    }
    assert len(ids() - ids(transfer={"temperature": 0.1})) == 4


def test_methods_differ_in_variant_and_gate(tiny_settings) -> None:
    methods = ("sasrec", "content-init", "delta", "delta+knn", "delta+knn+gate", "popularity", "item-knn")
    cells = {cell.method: cell for cell in make_cells(tiny_settings(methods=methods))}
    variants = [cells[method].training and cells[method].training.variant for method in methods]
    assert variants == ["sasrec", "content-init", "delta", "delta", "delta", None, None]
    assert cells["delta+knn"].transfer.gate is None
    assert cells["delta+knn+gate"].transfer.gate.kind == "maxsim_sigmoid"
    assert cells["delta+knn"].transfer.max_norm == 0.5


def test_the_record_is_what_the_tracker_reads(tiny_settings) -> None:
    settings = tiny_settings()
    cells = make_cells(settings)
    spec = SweepSpec.model_validate(sweep_record(settings, cells))
    assert spec.seeds == (42, 43)
    assert cells[0].params()["dim"] == 8


def test_data_that_is_missing_or_has_changed_is_told(tiny_settings) -> None:
    settings = tiny_settings()
    with pytest.raises(UserError, match="coldray data split"):
        make_cells(tiny_settings(split="none"))
    with pytest.raises(UserError, match="coldray encode"):
        make_cells(tiny_settings(embedding="none"))
    cells = make_cells(settings)
    record = sweep_record(settings, cells)
    check_unchanged(record, cells)
    record["dataset"] = record["dataset"] | {"embedding_fingerprint": "00"}
    with pytest.raises(UserError, match="embedding has changed"):
        check_unchanged(record, cells)
