"""A whole comparison on a real Ray and a real MLflow server, its model a scripted address; read back, told, drawn."""

import html.parser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from coldray.sweep import artifacts as a
from coldray.sweep import comparison_wording as words
from coldray.sweep.comparison import compare
from coldray.sweep.comparison_figures import CAPTIONS, draw_comparison
from coldray.sweep.report import write_report
from coldray.sweep.run import run_sweep
from coldray.sweep.validate import read_sweep, validate

pytestmark = pytest.mark.mlflow


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_a_comparison_from_the_first_cell_to_the_page(ray_session, mlflow_uri, asking_settings, tmp_path):
    methods = ("popularity", "history-average", "llm", "taxrec", "coldrag", "coldrag-constrained")
    zeroshot = {"analyses": {"hops": (1, 2)}, "growth": 2}
    settings = asking_settings(name="papers-compared", methods=methods, zeroshot=zeroshot)
    outcome = run_sweep(settings, str(tmp_path / "runs"), mlflow_uri, say=lambda line: None)
    assert outcome.failed == {}
    assert outcome.finished == 6 * 2 + 2 + 3
    report, more = outcome.report, outcome.report.comparison
    assert not report.left_out
    assert report.tables.baseline is not None
    assert report.tables.baseline.method not in ("coldrag", "coldrag-constrained")
    assert set(more.analyses) == {"hops"}
    assert [point.value for point in more.growth] == ["0/2", "1/2", "2/2"]
    assert more.graph is not None
    assert more.graph["items"] == 48
    by_label = {row.label: row for row in more.asked}
    assert by_label["llm"].made_up.mean > 0
    assert by_label["taxrec"].made_up.mean != by_label["taxrec"].made_up.mean  # it writes no titles
    best = [example for example in more.examples if example.rank]
    assert best
    assert best[0].evidence[best[0].rank - 1]
    check_words(report)
    check_page(report, tmp_path / "out")
    check_validation(mlflow_uri, outcome.run_id, tmp_path)


def check_words(report):
    table = words.comparison_table(report.tables, report.comparison)
    assert {row[0] for row in table.rows} == {row.label for row in report.tables.rows}
    assert "users whose next item is cold" in report.headline
    assert all(len(row) == len(of.columns) for of in report.text_tables() for row in of.rows)
    assert set(draw_comparison(report.tables, report.comparison)) == set(CAPTIONS)
    assert compare([], report.tables).asked == ()


def check_page(report, out):
    write_report(report, out, log=False)
    text = (out / "report.html").read_text()
    page = Page()
    page.feed(text)
    told = " ".join(page.text)
    for title in (
        "Made-up titles",
        "What the language model is asked",
        "Examples",
        "The graph",
        "as the graph grows",
    ):
        assert title in told
    assert page.tags.count("svg") == len(CAPTIONS)
    assert "src=" not in text
    assert 'href="http' not in text


def check_validation(uri, run_id, tmp_path):
    """A list that does not bear out the ranks, or another rate of made-up titles, may not count."""
    client = MlflowClient(uri)
    with read_sweep(uri, run_id) as record:
        runs = {r.run_id: r for r in record.runs if r.tags[a.METHOD_TAG] == "llm"}
        one, other = list(runs.values())[:2]
        table = pq.read_table(one.folder / a.RECOMMENDED)
        empty = pa.array([[]] * len(table), table.schema.field("items").type)
        changed = tmp_path / a.RECOMMENDED
        place = table.column_names.index("items")
        pq.write_table(table.set_column(place, "items", pa.array([[1, 1]] * len(table), empty.type)), changed)
    client.log_artifact(one.run_id, str(changed))
    client.log_metric(other.run_id, "hallucination_rate", 0.987)
    with read_sweep(uri, run_id) as record:
        reasons = {item.run_id: item.reason for item in validate(record)[1]}
    assert "one twice" in reasons[one.run_id]
    assert "hallucination_rate is 0.987" in reasons[other.run_id]
