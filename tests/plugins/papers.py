"""A small shop with everything that the papers' comparison needs: cold items, an embedding, a graph, a scripted model."""

import shutil

import pyarrow as pa
import pytest

from tests.plugins.graph import Catalogue


@pytest.fixture
def shop(tiny_dataset, tiny_split, tmp_path):
    """Return a copy of `tiny_dataset` whose items have titles, and a graph in which those of a group share a feature."""
    folder = tmp_path / "shop"
    shutil.copytree(tiny_dataset, folder)
    ids = tiny_split.item_ids.to_pylist()
    group = [(i // 10 if i < 40 else (i - 40) // 2) for i in range(len(ids))]
    titles = [f"T {item}" for item in ids]
    from coldray import storage
    from coldray.encode.sentence_model import TextEncoder

    storage.write_table(str(folder / "items.parquet"), pa.table({"item_id": ids, "title": titles}))
    graph = str(folder / "graph")
    items = {item: [f"feature {g}"] for item, g in zip(ids, group, strict=True)}
    made = Catalogue()
    made.embed = TextEncoder(None)  # the space in which a change of the graph embeds anew
    made.write(graph, items)
    storage.write_json(f"{graph}/build.json", {"llm": {"engine": "openai", "model": "scripted"}})
    return str(folder)


@pytest.fixture
def asking_settings(tiny_settings, shop, llm_address):
    """Return a function that makes settings of a comparison over `shop`, which asks the scripted address."""

    def text(body):
        import json
        import re

        user = body["messages"][1]["content"]
        if "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            if "enum" in schema:
                return json.dumps(schema["enum"][0])
            if "<titles>" in user:
                return json.dumps(
                    [{"name": f"F{i}", "values": ["a", "b"]} for i in range(schema["minItems"])]
                )
            inner = schema.get("items", schema)
            one = {name: of["enum"][0] for name, of in inner["properties"].items()}
            return json.dumps([one] * schema["minItems"] if schema.get("type") == "array" else one)
        shown = re.findall(r"^T i\d+$", user.split("</candidates>")[0], re.M)
        return "\n".join(["T made up of nothing at all", *shown[:9]])

    llm_address.text = text

    def make(**changes):
        zeroshot = {
            "llm": llm_address.settings(),
            "candidates": 12,
            "taxonomy_features": 2,
            "taxonomy_lists": 2,
        }
        zeroshot |= {"retrieval": {"scorer": "embedding", "fill": False}} | changes.pop("zeroshot", {})
        base = {
            "dataset": shop,
            "cold_users": 15,
            "baseline": "best",
            "seeds": (1, 2),
            "k": (3,),
            "search": False,
        }
        base |= {"methods": ("popularity", "history-average", "llm", "coldrag"), "zeroshot": zeroshot}
        return tiny_settings(**base | changes)

    return make
