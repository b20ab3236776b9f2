import csv
import gzip
import itertools
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.encode.embeddings import embedding_folder, load_embeddings, publish, write_part
from coldray.errors import UserError
from coldray.evaluation.ranking import exposure_of_cold
from coldray.models.scorers import SASRecScorer
from coldray.sweep.grid import make_cells
from coldray.sweep.work import Workspace
from coldray.training import Backbone

RESULTS = ("cold-start-evaluation.csv.gz", "ranks.parquet")


def run_all(settings, runs):
    workspace = Workspace(settings.dataset, str(runs), share_backbones=settings.share_backbones)
    cells = make_cells(settings)
    epochs = {cell.cell_id: len(list(workspace.run(cell))) for cell in cells}
    return workspace, cells, epochs


def results(workspace, cells):
    return {
        (cell.cell_id, name): storage.read_bytes(storage.join(workspace.result_folder(cell), name))
        for cell in cells
        for name in RESULTS
    }


def read_rows(path):
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_backbone_is_trained_once_and_its_own_trainings_give_the_same_numbers(
    tiny_settings, tmp_path
) -> None:
    shared, cells, epochs = run_all(tiny_settings(), tmp_path / "shared")
    assert sum(epochs.values()) == 2 * 4
    assert len(os.listdir(tmp_path / "shared" / "backbones")) == 2
    alone, _, many = run_all(tiny_settings(share_backbones=False), tmp_path / "alone")
    assert sum(many.values()) == 6 * 4
    assert results(shared, cells) == results(alone, cells)


def test_every_method_writes_what_the_report_reads(tiny_settings, tmp_path) -> None:
    methods = (
        "sasrec",
        "content-init",
        "delta",
        "delta+knn",
        "delta+knn+gate",
        "history-average",
        "popularity",
        "item-knn",
    )
    workspace, cells, _ = run_all(tiny_settings(methods=methods, seeds=(1,), k=(3,)), tmp_path)
    by_method = {}
    for cell in cells:
        folder = workspace.result_folder(cell)
        rows = read_rows(f"{folder}/cold-start-evaluation.csv.gz")
        assert [(r["recommend-cold-items"], r["filter-cold-items"]) for r in rows] == [
            ("True", "False"),
            ("True", "True"),
            ("False", "False"),
            ("False", "True"),
        ]
        assert float(rows[2]["cold_NDCG@10"]) == 0
        by_method[cell.method] = float(rows[0]["cold_NDCG@10"])
        ranks = pq.read_table(f"{folder}/ranks.parquet").to_pydict()
        hits = [
            1 / np.log2(r + 1) if 0 < r <= 10 else 0
            for r, c in zip(ranks["rank_all_kept"], ranks["cold"], strict=True)
            if c
        ]
        assert by_method[cell.method] == pytest.approx(np.mean(hits))
    assert by_method["popularity"] == by_method["item-knn"] == 0
    assert by_method["delta+knn"] > by_method["sasrec"]


def test_a_cell_that_is_done_is_not_run_again(tiny_settings, tmp_path) -> None:
    run_all(tiny_settings(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    _, _, epochs = run_all(tiny_settings(), tmp_path)
    assert not any(epochs.values())
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_half_a_result_is_made_again(tiny_settings, tmp_path) -> None:
    workspace, cells, _ = run_all(tiny_settings(), tmp_path)
    kept = results(workspace, cells)
    folder = workspace.result_folder(cells[0])
    os.remove(f"{folder}/done.json")
    (tmp_path / "x").write_bytes(b"half")
    os.replace(tmp_path / "x", f"{folder}/ranks.parquet")
    os.remove(f"{tmp_path}/backbones/{cells[0].backbone_id}/backbone.json")
    again, _, epochs = run_all(tiny_settings(), tmp_path)
    assert sum(epochs.values()) == 4
    assert results(again, cells) == kept


def test_transfer_gives_cold_items_residuals_and_leaves_warm_ones(
    tiny_settings, tiny_split, tmp_path
) -> None:
    workspace, cells, _ = run_all(tiny_settings(seeds=(42,), k=(3,)), tmp_path)
    cell = next(cell for cell in cells if cell.k)
    scorer, transfer = workspace._scorer(cell)
    backbone = Backbone.load(f"{tmp_path}/backbones/{cell.backbone_id}")
    plain = backbone.embedding.table().detach()
    first = tiny_split.num_warm + 1
    assert np.array_equal(scorer.item_vectors[:first], plain[:first])
    assert (scorer.item_vectors[first:] - plain[first:]).norm(dim=1).min() > 0
    gates = pq.read_table(f"{workspace.result_folder(cell)}/transfer.parquet")
    assert gates["item_id"].to_pylist() == tiny_split.item_ids.to_pylist()[first - 1 :]
    assert gates["item"].to_pylist() == list(range(first, tiny_split.num_items + 1))
    assert np.array_equal(gates["gate"].to_numpy(), transfer.gate.astype(np.float32))
    metrics = json.loads(storage.read_bytes(storage.join(workspace.result_folder(cell), "done.json")))[
        "metrics"
    ]
    assert metrics["mean_gate"] == pytest.approx(float(transfer.gate.mean()))


def test_without_a_cold_item_the_cold_metrics_are_none(tiny_settings, warm_dataset, tmp_path) -> None:
    methods = ("sasrec", "content-init", "delta", "history-average", "popularity", "item-knn")
    settings = tiny_settings(dataset=warm_dataset, split="warm", methods=methods, seeds=(1,))
    workspace, cells, _ = run_all(settings, tmp_path)
    for cell in cells:
        folder = workspace.result_folder(cell)
        rows = read_rows(f"{folder}/cold-start-evaluation.csv.gz")
        assert {(row["cold_NDCG@10"], row["cold_users"]) for row in rows} == {("nan", "0")}
        metrics = storage.read_json(f"{folder}/done.json")["metrics"]
        assert {name for name in metrics if "cold" in name} == set()
        assert metrics["ndcg_at_10"] == metrics["warm_ndcg_at_10"]


def test_a_k_above_the_warm_items_takes_all_of_them(tiny_settings, tiny_split, tmp_path) -> None:
    workspace, cells, _ = run_all(tiny_settings(seeds=(42,), k=(40, 41, 500)), tmp_path)
    many = {cell.k: cell for cell in cells if cell.k}
    found = {k: workspace._scorer(cell)[1] for k, cell in many.items()}
    assert all(transfer.neighbors.shape == (tiny_split.num_cold, 40) for transfer in found.values())
    assert np.array_equal(found[500].gate, found[40].gate)
    for name in (*RESULTS, "transfer.parquet"):
        content = {storage.read_bytes(storage.join(workspace.result_folder(c), name)) for c in many.values()}
        assert len(content) == 1


def test_data_that_changes_while_a_sweep_runs_is_told(
    tiny_settings, tiny_split, tiny_content, tmp_path
) -> None:
    dataset = str(shutil.copytree(tiny_settings().dataset, tmp_path / "data"))
    cell = make_cells(tiny_settings(dataset=dataset))[0]
    home = embedding_folder(dataset, "given")
    publish(home, [write_part(home, "1" * 16, tiny_split.item_ids, -tiny_content[1:])], {"source": "again"})
    with pytest.raises(
        UserError, match="the embedding given has changed since the sweep began; run the sweep anew"
    ):
        list(Workspace(dataset, str(tmp_path / "runs")).run(cell))
    manifest = storage.read_json(f"{dataset}/splits/tiny/manifest.json")
    storage.write_json(f"{dataset}/splits/tiny/manifest.json", manifest | {"fingerprint": "00" * 16})
    with pytest.raises(UserError, match="the split has changed since the sweep began; run the sweep anew"):
        list(Workspace(dataset, str(tmp_path / "runs")).run(cell))
    assert not (tmp_path / "runs").exists()


def test_an_embedding_without_some_of_the_items_names_one(
    tiny_settings, tiny_split, tiny_content, tmp_path
) -> None:
    dataset = str(shutil.copytree(tiny_settings().dataset, tmp_path / "data"))
    home = embedding_folder(dataset, "given")
    ids = [f"{i}, another" if i == "i07" else i for i in tiny_split.item_ids.to_pylist()]
    publish(home, [write_part(home, "1" * 16, pa.array(ids), tiny_content[1:])], {"source": "others"})
    cell = make_cells(tiny_settings(dataset=dataset))[0]
    with pytest.raises(
        UserError, match=r"embeddings/given: item 'i07' has no vector; encode the data set again"
    ):
        list(Workspace(dataset, str(tmp_path / "runs")).run(cell))


def test_two_that_train_the_same_backbone_do_each_other_no_harm(tiny_settings, tmp_path) -> None:
    settings = tiny_settings(seeds=(42,), k=(3,))
    alone, cells, _ = run_all(settings, tmp_path / "alone")
    both = [Workspace(settings.dataset, str(tmp_path / "both")) for _ in range(2)]
    for _ in itertools.zip_longest(*(workspace.run(cells[0]) for workspace in both)):
        pass  # an epoch of the one, an epoch of the other, into the same files
    for cell in cells[1:]:
        list(both[0].run(cell))
    assert results(both[0], cells) == results(alone, cells)
    (folder,) = (tmp_path / "both" / "backbones").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["backbone.json", "model.safetensors"]


PROBES = 1
CHOOSING = {"trials": 6, "pseudo_cold": 0.2, "probes": PROBES}


def selection_of(runs):
    (folder,) = (runs / "selections").iterdir()
    return json.loads((folder / "selection.json").read_text())


def test_a_transfer_is_chosen_once_for_all_seeds_and_applied(tiny_settings, tiny_split, tmp_path) -> None:
    settings = tiny_settings(
        methods=("delta", "delta+selected"), selection=CHOOSING, training={"max_epochs": 12}
    )
    workspace, cells, _ = run_all(settings, tmp_path)
    chosen = selection_of(tmp_path)
    assert len(chosen["tried"]) == 6
    sides, bounds = 2, 2
    others = 2 if chosen["max_delta_norm"] == 2.0 else 0
    assert len(os.listdir(tmp_path / "backbones")) == 2 + others + sides * bounds * PROBES
    for cell in cells:
        folder = workspace.result_folder(cell)
        selected = cell.method == "delta+selected"
        assert storage.exists(f"{folder}/selection.json") == selected
        if selected:
            assert storage.read_json(f"{folder}/selection.json") == chosen
            assert storage.exists(f"{folder}/transfer.parquet") == (chosen["transfer"] is not None)
    # Whichever was chosen, the other way is taken where it says so.
    path = f"{workspace._folder('selections', cells[-1].selection_id, cells[-1])}/selection.json"
    storage.write_json(path, chosen | {"transfer": None, "max_delta_norm": 0.5})
    assert workspace.backbone_cell(cells[-1]) == cells[-1]
    plain = Backbone.load(workspace._backbone_folder(cells[-1])).embedding.table().detach()
    assert np.array_equal(workspace._scorer(cells[-1])[0].item_vectors, plain)
    given = {"k": 3, "exposure": 1.5, "space": "embedding"}
    storage.write_json(path, chosen | {"transfer": given, "max_delta_norm": 0.5})
    scorer, transfer = workspace._scorer(cells[-1])
    first = tiny_split.num_warm + 1
    assert transfer.neighbors.shape[1] == 3
    assert np.array_equal(scorer.item_vectors[:first], plain[:first])
    assert not np.array_equal(scorer.item_vectors[first:], plain[first:])
    assert set(scorer.item_bias[:first].tolist()) == {0.0}
    assert len(set(scorer.item_bias[first:].tolist())) == 1
    known = (tiny_split.validation, tiny_split.num_warm)
    before = exposure_of_cold(SASRecScorer(scorer.encoder, plain), *known)
    assert exposure_of_cold(scorer, *known) == pytest.approx(1.5 * before, abs=0.02)
    storage.write_json(path, chosen | {"transfer": None, "max_delta_norm": 2.0})
    assert workspace.backbone_cell(cells[-1]).training.max_delta_norm == 2.0
    assert workspace._backbone_folder(cells[-1]) != workspace._backbone_folder(cells[1])


def test_neighbours_of_several_embeddings_are_given_to_cold_items(
    tiny_settings, with_modality, tmp_path
) -> None:
    base = {"dataset": with_modality, "seeds": (42,), "k": (3,)}
    one, cells, _ = run_all(tiny_settings(**base), tmp_path / "one")
    also = [{"space": "image", "scale": 0.1}]
    many = tiny_settings(modalities=("image",), transfer={"also": also}, **base)
    both, mixed, _ = run_all(many, tmp_path / "both")
    place = next(i for i, cell in enumerate(cells) if cell.k)
    alone, pooled = one._scorer(cells[place])[1], both._scorer(mixed[place])[1]
    assert mixed[place].cell_id != cells[place].cell_id
    assert not np.array_equal(alone.neighbors, pooled.neighbors)
    assert (pooled.similarities >= alone.similarities - 1e-6).all()
    image = tiny_settings(modalities=("image",), transfer={"space": "image"}, **base)
    workspace, cells, _ = run_all(image, tmp_path / "image")
    alone = workspace._scorer(cells[place])[1]
    assert not np.array_equal(alone.similarities, pooled.similarities)


def test_a_modality_that_changes_is_told(tiny_settings, with_modality, tiny_split, tmp_path) -> None:
    settings = tiny_settings(
        dataset=with_modality, modalities=("image",), transfer={"space": "image"}, seeds=(42,), k=(3,)
    )
    cells = make_cells(settings)
    home = embedding_folder(with_modality, "image")
    vectors = np.ones((48, 5), np.float32)
    publish(home, [write_part(home, "4" * 16, tiny_split.item_ids, vectors)], {"source": "again"})
    with pytest.raises(
        UserError, match="the embedding image has changed since the sweep began; run the sweep"
    ):
        list(Workspace(with_modality, str(tmp_path / "runs")).run(next(cell for cell in cells if cell.k)))


def test_a_choice_among_modalities_is_made_and_applied(tiny_settings, with_modality, tmp_path) -> None:
    changes = {"methods": ("delta", "delta+selected"), "selection": CHOOSING | {"trials": 20}, "seeds": (42,)}
    settings = tiny_settings(dataset=with_modality, modalities=("image",), **changes)
    workspace, cells, _ = run_all(settings, tmp_path)
    tried = selection_of(tmp_path)["tried"]
    assert {item["transfer"]["space"] for item in tried} == {"item_vectors", "embedding", "image"}
    assert any(item["transfer"]["also"] for item in tried)
    path = f"{workspace._folder('selections', cells[-1].selection_id, cells[-1])}/selection.json"
    given = {"k": 4, "space": "image", "also": [{"space": "embedding", "scale": 2.0}]}
    storage.write_json(path, storage.read_json(path) | {"transfer": given, "max_delta_norm": 0.5})
    assert workspace._scorer(cells[-1])[1].neighbors.shape[1] == 4


def test_neither_test_users_nor_cold_items_reach_the_choice(
    tiny_settings, tiny_split, tiny_content, with_modality, tmp_path
) -> None:
    """The same choice comes out when every test user and every cold item's vectors are others."""
    from dataclasses import replace

    from coldray.data.dataset import Sequences, save_split

    dataset = str(shutil.copytree(with_modality, tmp_path / "data"))
    random = np.random.default_rng(0)
    test = tiny_split.test
    scrambled = Sequences(
        test.users, test.offsets, random.permutation(test.items), random.permutation(test.targets)
    )
    save_split(replace(tiny_split, test=scrambled), f"{dataset}/splits/tiny", {"protocol": "made by hand"})
    image = load_embeddings(dataset, "image", tiny_split.item_ids)
    for name, vectors in (("given", tiny_content[1:].copy()), ("image", image.copy())):
        vectors[tiny_split.num_warm :] = random.normal(size=vectors[tiny_split.num_warm :].shape)
        home = embedding_folder(dataset, name)
        publish(home, [write_part(home, "2" * 16, tiny_split.item_ids, vectors)], {"source": "others"})
    changes = {"methods": ("delta", "delta+selected"), "selection": CHOOSING, "seeds": (42,)}
    changes |= {"modalities": ("image",)}
    run_all(tiny_settings(dataset=with_modality, **changes), tmp_path / "as-it-is")
    run_all(tiny_settings(dataset=dataset, **changes), tmp_path / "changed")
    first, second = selection_of(tmp_path / "as-it-is"), selection_of(tmp_path / "changed")
    times = ("seconds", "training_seconds")
    assert {k: v for k, v in first.items() if k not in times} == {
        k: v for k, v in second.items() if k not in times
    }


def test_a_choice_that_was_interrupted_goes_on_to_the_same_numbers(tiny_settings, tmp_path) -> None:
    settings = tiny_settings(methods=("delta", "delta+selected"), selection=CHOOSING, seeds=(42,))
    whole, cells, _ = run_all(settings, tmp_path / "whole")
    workspace = Workspace(settings.dataset, str(tmp_path / "killed"))
    list(workspace.run(cells[0]))
    epochs = workspace.run(cells[1])
    for _ in range(5):  # into the second probe
        next(epochs)
    epochs.close()
    list(Workspace(settings.dataset, str(tmp_path / "killed")).run(cells[1]))
    assert results(workspace, cells) == results(whole, cells)
    assert selection_of(tmp_path / "killed")["tried"] == selection_of(tmp_path / "whole")["tried"]
