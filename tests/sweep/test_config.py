from pathlib import Path

import pytest
from pydantic import ValidationError

from coldray.errors import UserError
from coldray.settings import load_yaml
from coldray.sweep.config import SweepSettings

FILES = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_that_comes_with_the_project_is_valid(path) -> None:
    assert load_yaml(path, SweepSettings).name == path.stem.replace("_", "-")


def test_there_is_a_file_for_every_data_set_of_the_papers() -> None:
    names = {path.stem for path in FILES}
    assert {"quickstart", "beauty", "amazon_m2", "zvuk", "games", "toys", "office"} <= names


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": [1]}, "seed"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": []}, "seeds"),
        ({"k": [0]}, "k"),
        ({"methods": ["delta+knn"]}, "baseline delta"),
        ({"methods": ["delta+knn"], "baseline": "delta+knn"}, "transfers"),
        ({"embedding": None}, "needs one"),
        ({"k": []}, "k is empty"),
        ({"training": {"variant": "sasrec"}}, "follows from methods"),
        ({"transfer": {"k": 3}}, "follows from k"),
        ({"training": {"encoder": {"num_heads": 3}}}, "multiple"),
        ({"name": "../x"}, "name"),
        ({"modalities": ["a/b"]}, "modalities"),
        ({"modalities": ["text", "text"]}, "twice"),
        ({"modalities": ["minilm"]}, "modalities: minilm is what the sweep calls its embedding"),
        ({"modalities": ["embedding"]}, "modalities: embedding is what the sweep calls its embedding"),
        (
            {"modalities": ["text"], "methods": ["popularity"], "baseline": "popularity", "embedding": None},
            "need an emb",
        ),
        ({"transfer": {"space": "text"}}, "looks in text, which is none of item_vectors, embedding; add it"),
        ({"transfer": {"also": [{"space": "text"}]}, "modalities": ["image"]}, "looks in text"),
    ],
)
def test_what_does_not_fit_is_told(wrong, said) -> None:
    with pytest.raises(ValidationError, match=said):
        SweepSettings.model_validate({"name": "x", "dataset": "d"} | wrong)


def test_a_key_that_does_not_exist_is_named_with_its_file(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ndataset: d\ntransfer: {temprature: 1}\n")
    with pytest.raises(UserError, match=r"x\.yaml: transfer\.temprature: no such key"):
        load_yaml(path, SweepSettings)
