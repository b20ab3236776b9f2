"""The report of a real sweep: its numbers, its words, its files, and what hostile names cannot do."""

import csv
import html.parser
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from coldray.errors import UserError
from coldray.sweep import artifacts as a
from coldray.sweep.report import make_report, rich_table, to_json, write_report
from coldray.sweep.validate import LeftOut, read_sweep

pytestmark = pytest.mark.mlflow
HOSTILE = "<script>alert('x')</script> | & % _ $"


class Page(html.parser.HTMLParser):
    """Collects the tags of a page and checks that each is closed."""

    VOID = ("meta", "br", "use", "path", "rect", "line")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def sweep(mlflow_uri, make_sweep, tmp_path_factory):
    made = make_sweep(HOSTILE, seeds=(1, 2, 3), ks=(10, 25))
    made.log(mlflow_uri, "reported", tmp_path_factory.mktemp("reported"))
    return made


@pytest.fixture(scope="module")
def written(mlflow_uri, sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report"
    with read_sweep(mlflow_uri, sweep.sweep["sweep_id"]) as record:
        report = make_report(record)
        write_report(report, out)
    return report, out


def test_the_files_are_there_and_at_the_server(mlflow_uri, written):
    report, out = written
    names = {path.name for path in out.iterdir()}
    pngs = {"cold-by-k.png", "gates.png", "gains.png"}
    assert names == {"report.html", "results.md", "results.csv", "results.tex", *pngs}
    listed = MlflowClient(mlflow_uri).list_artifacts(report.record.run_id, "report")
    assert {item.path for item in listed} == {f"report/{name}" for name in names}


def test_the_numbers_are_those_of_the_ranks(sweep, written):
    report, out = written
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert len(rows) == 4 * 4 * 6
    for cell in sweep.sweep["cells"]:
        cells = [c for c in sweep.sweep["cells"] if (c["method"], c["k"]) == (cell["method"], cell["k"])]
        ranks = np.stack([sweep.evaluation(c).rank_warm_removed for c in cells])[:, ~sweep.cold]
        per_seed = np.where((ranks > 0) & (ranks <= 10), 1 / np.log2(ranks + 1), 0).mean(axis=1)
        wanted = (cell["method"], str(cell["k"] or ""), "False", "True", "warm_NDCG@10")
        (row,) = [r for r in rows if tuple(r.values())[:5] == wanted]
        assert float(row["mean"]) == pytest.approx(per_seed.mean())
        assert float(row["std"]) == pytest.approx(per_seed.std(ddof=1))
        assert row["seeds"] == "1 2 3"
        assert len(row["runs"].split()) == 3
    best = next(r for r in rows if (r["k"], r["metric"]) == ("10", "cold_NDCG@10"))
    page = (out / "report.html").read_text()
    assert f"{float(best['mean']):.5f} ± {float(best['std']):.5f}" in page
    assert all(result.run_id in page for result in report.results)


def test_the_page_is_one_file_that_runs_nothing(sweep, written):
    _report, out = written
    text = (out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.tags.count("svg") == 3
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import", text)
    assert HOSTILE in "".join(page.text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_markdown_and_latex_hold_the_name_unharmed(written):
    _report, out = written
    markdown = (out / "results.md").read_text()
    assert markdown.startswith("# \\<script>alert('x')\\</script> \\| & % \\_ $\n")
    lines = [line for line in markdown.splitlines() if line.startswith("| delta |")]
    assert lines
    latex = (out / "results.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert r"$\pm$" in latex
    assert "±" not in latex


def test_the_finding_says_what_the_numbers_say(mlflow_uri, make_sweep, tmp_path):
    found = {}
    for lift in (0.8, 0.0, -0.8):
        made = make_sweep(f"lift {lift}", seeds=(1, 2, 3), ks=(10,), users=200, lift=lift)
        made.log(mlflow_uri, "lifted", tmp_path / str(lift))
        with read_sweep(mlflow_uri, f"lift {lift}") as record:
            found[lift] = make_report(record).headline
    assert found[0.8].startswith("delta+knn+gate K=10 raises cold NDCG@10 on data/made-up (temporal) from 0.")
    assert "higher for 3 of 3 seeds" in found[0.8]
    assert re.match("No significant gain|Nothing tried is better .* no significant difference", found[0.0])
    assert re.match("Nothing tried is better than delta .* a significant loss", found[-0.8])


def test_little_is_reported_too(mlflow_uri, written, tmp_path):
    report, _ = written
    nothing = replace(
        report, results=[], tables=replace(report.tables, rows=(), baseline=None, differences=(), gains=())
    )
    write_report(nothing, tmp_path / "nothing", log=False)
    assert (
        "No run on data/made-up (temporal) may be counted yet."
        in (tmp_path / "nothing" / "report.html").read_text()
    )
    alone = replace(report.tables, rows=report.tables.rows[:1], differences=(), gains=())
    write_report(replace(report, tables=alone), tmp_path / "alone", log=False)
    assert not (tmp_path / "alone" / "gates.png").exists()


def test_what_was_left_out_is_listed(written, tmp_path):
    report, _ = written
    left_out = [LeftOut("ab" * 16, "delta seed=1", "its status is <b>RUNNING</b>")]
    write_report(replace(report, left_out=left_out), tmp_path / "out", log=False)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "its status is &lt;b&gt;RUNNING&lt;/b&gt;" in text
    assert "1 left out" in text


def test_a_folder_with_other_files_is_not_replaced(written, tmp_path):
    report, _ = written
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis\.doc, which is no part of a report"):
        write_report(report, tmp_path, log=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_an_old_report_is_replaced_whole(written, tmp_path):
    report, _ = written
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gates.png").write_text("old")
    write_report(report, tmp_path / "out", log=False)
    assert (tmp_path / "out" / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_terminal_and_json_say_the_same(written):
    report, _ = written
    console = Console(width=80, file=io.StringIO())
    console.print(rich_table(report))
    said = json.loads(json.dumps(to_json(report), allow_nan=False))
    for row in said["results"]:
        assert f"{row['metrics']['cold_NDCG@10']['mean']:.5f}" in console.file.getvalue()
    assert said["left_out"] == []
    assert a.HEADLINE.recommend_cold


def test_a_sweep_without_a_cold_target_says_so(mlflow_uri, make_sweep, tmp_path):
    made = make_sweep("all warm", seeds=(1, 2), ks=(), users=80, cold_share=0)
    made.log(mlflow_uri, "all-warm", tmp_path / "runs")
    with read_sweep(mlflow_uri, "all warm") as record:
        report = make_report(record)
        write_report(report, tmp_path / "out")
    assert (len(report.results), report.left_out) == (4, [])
    assert report.headline.startswith("No test user on data/made-up (temporal) has a cold target")
    page = (tmp_path / "out" / "report.html").read_text()
    assert report.headline in page
    assert "nan" not in "".join(re.sub("<[^>]*>", " ", page)).lower().split()
    said = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert {row["metrics"]["cold_NDCG@10"]["mean"] for row in said["results"]} == {None}
    assert all(row["metrics"]["NDCG@10"]["mean"] > 0 for row in said["results"])
