import shutil

import pytest

from coldray import storage
from coldray.errors import UserError
from coldray.sweep.artifacts import SweepSpec
from coldray.sweep.grid import check_unchanged, make_cells, notes, sweep_record


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


def test_params_say_how_a_transfer_is_chosen_and_not_another_seed(tiny_settings) -> None:
    cells = make_cells(tiny_settings(methods=("delta", "delta+selected"), selection={"trials": 7}))
    params = cells[-1].params()
    assert params["selection_trials"] == 7
    assert params["selection_seed"] == 42
    assert not {"seed", "k", "method"} & params.keys()
    assert cells[-1].selection_id == cells[-2].selection_id
    assert cells[-1].seed != cells[-2].seed


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


def test_modalities_are_part_of_what_a_result_depends_on(tiny_settings, with_modality) -> None:
    given, dataset = {"methods": ("delta", "delta+selected"), "seeds": (42,)}, with_modality
    plain = make_cells(tiny_settings(dataset=dataset, **given))
    both = make_cells(tiny_settings(dataset=dataset, modalities=("image",), **given))
    assert "modalities" not in plain[0].data
    assert plain[-1].backbone_id == both[-1].backbone_id
    assert plain[-1].selection_id != both[-1].selection_id
    assert both[-1].params()["modalities"] == "image"
    record = sweep_record(tiny_settings(), both)
    assert SweepSpec.model_validate(record).dataset.modalities == both[0].data["modalities"]
    record["dataset"] = record["dataset"] | {"modalities": {"image": "00" * 8}}
    with pytest.raises(UserError, match="embedding has changed"):
        check_unchanged(record, both)
    with pytest.raises(UserError, match=r"coldray encode .* --name sound"):
        make_cells(tiny_settings(dataset=dataset, modalities=("sound",)))


def test_transfer_without_a_cold_item_is_refused_and_the_rest_is_not(tiny_settings, warm_dataset) -> None:
    base = {"dataset": warm_dataset, "split": "warm"}
    said = r"splits/warm: has no cold item, so delta\+knn\+gate has nothing to transfer to; use another split"
    with pytest.raises(UserError, match=said):
        make_cells(tiny_settings(**base))
    assert len(make_cells(tiny_settings(**base, methods=("delta", "history-average")))) == 4


def test_an_embedding_that_does_not_fit_is_refused(tiny_settings, tiny_dataset, tmp_path) -> None:
    def cells(dim, **changes):
        return make_cells(tiny_settings(training={"encoder": {"dim": dim}}, **changes))

    with pytest.raises(
        UserError, match=r"training\.encoder\.dim: is 16, more than the 8 numbers of a vector"
    ):
        cells(16)
    assert cells(16, methods=("sasrec",), baseline="sasrec")
    dataset = str(shutil.copytree(tiny_dataset, tmp_path / "data"))
    manifest = storage.read_json(storage.join(dataset, "embeddings", "given", "manifest.json"))
    for name, change in (("wide", {"dim": 384}), ("short", {"count": 47})):
        storage.write_json(storage.join(dataset, "embeddings", name, "manifest.json"), manifest | change)
    assert cells(40, embedding="wide", dataset=dataset)
    with pytest.raises(
        UserError, match=r"dim: is 41, more than the 40 warm items .*wide; set it to 40 or less"
    ):
        cells(41, embedding="wide", dataset=dataset)
    with pytest.raises(UserError, match=r"short: has vectors of 47 items, the split has 48; encode"):
        cells(8, embedding="short", dataset=dataset)


def test_a_k_above_the_warm_items_is_noted(tiny_settings) -> None:
    assert notes(tiny_settings(k=(3, 40))) == []
    assert notes(tiny_settings(k=(3, 41, 99), methods=("delta",))) == []
    (note,) = notes(tiny_settings(k=(3, 41, 99)))
    assert note == "k: 41, 99: above the 40 warm items; all of them are taken as neighbours"
