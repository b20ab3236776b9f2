"""The command: what it prints and writes, and its errors. What it builds is tested with coldray.graph."""

import json

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner

from coldray import storage
from coldray.cli.graph import graph
from coldray.errors import UserError


def run(*arguments):
    return CliRunner().invoke(graph, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_graphs_life(llm_address, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "secret")
    shop = tmp_path / "shop"
    storage.write_table(
        shop / "items.parquet", pa.table({"item_id": ["1", "2"], "title": ["Red pen", "Blue pen"]})
    )
    config = tmp_path / "build.yaml"
    config.write_text(yaml.safe_dump({"llm": llm_address.settings(key_variable="SHOP_KEY", input_price=1.0)}))

    made = run("build", shop, "--config", config)
    assert "graph version 1: 2 items described, 0 removed, 0 unchanged" in made.stdout
    assert "4 answers asked for, 0 remembered" in made.stdout
    assert "at a cost of" in made.stdout
    assert "described 2 of 2 items" in made.stderr
    assert set(llm_address.keys) == {"Bearer secret"}

    storage.write_table(tmp_path / "new.parquet", pa.table({"item_id": ["3"], "title": ["Green tea"]}))
    added = json.loads(run("add", shop, "--items", tmp_path / "new.parquet", "--json").stdout)
    assert (added["version"], added["described"], added["usage"]["calls"]) == (2, 1, 2)
    assert "1 removed" in run("remove", shop, "1").stdout
    assert len(json.loads(run("versions", shop, "--json").stdout)) == 3
    assert run("rollback", shop, "2").stdout == "version 2 is now version 4\n"

    assert "3 items" in run("stats", shop, "--png", tmp_path / "types.png").stdout
    assert (tmp_path / "types.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(run("stats", shop, "--json", "--version", "3").stdout)["items"] == 2
    assert "Red pen (1)" in run("show", shop, "1", "--html", tmp_path / "pen.html").stdout
    assert "<svg" in (tmp_path / "pen.html").read_text()
    assert json.loads(run("show", shop, "1", "--json").stdout)["nodes"][0]["item_id"] == "1"
    run("export", shop, "--format", "graphml", "--out", tmp_path / "g.graphml")
    run("export", shop, "--format", "parquet", "--out", tmp_path / "tables")
    assert (tmp_path / "tables" / "relations.parquet").exists()
    assert run("prune", shop, "--keep", "1").stdout == "3 versions forgotten: 1, 2, 3\n"


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match=r"items\.parquet: no such file; name a data set folder"):
        run("build", tmp_path)
    storage.write_table(tmp_path / "items.parquet", pa.table({"item_id": ["1"], "title": ["A"]}))
    with pytest.raises(UserError, match="--config: says which language model to ask"):
        run("build", tmp_path)
    with pytest.raises(UserError, match="holds no graph; make one with: coldray graph build"):
        run("stats", tmp_path)
    with pytest.raises(UserError, match="holds no graph"):
        run("versions", tmp_path)
    (tmp_path / "bad.yaml").write_text("llm: {engine: openai, model: m}\ncolums: [a]\n")
    with pytest.raises(UserError, match=r"bad\.yaml: colums: no such key"):
        run("build", tmp_path, "--config", tmp_path / "bad.yaml")
    (tmp_path / "openai.yaml").write_text("llm: {engine: openai, model: m}\n")
    with pytest.raises(UserError, match="--model m2: is for vLLM"):
        run("build", tmp_path, "--config", tmp_path / "openai.yaml", "--model", "m2")
