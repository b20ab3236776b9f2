"""The report of a sweep: one page, and the same tables as Markdown, CSV and LaTeX.

OUT/report.html                   everything, in one file that needs no other
OUT/results.md, .csv, .tex        the tables
OUT/cold-by-k.png, gates.png, ... the figures
"""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from mlflow import MlflowClient
from rich.table import Table as RichTable

from coldray.errors import UserError
from coldray.sweep import artifacts as a
from coldray.sweep import comparison_wording as words
from coldray.sweep import figures, wording
from coldray.sweep.aggregate import HEADLINE_METRIC, Tables, aggregate
from coldray.sweep.comparison import Comparison, compare
from coldray.sweep.comparison_figures import CAPTIONS as COMPARED
from coldray.sweep.comparison_figures import draw_comparison
from coldray.sweep.tracking import reaching
from coldray.sweep.validate import CellResult, LeftOut, SweepRecord, validate
from coldray.sweep.wording import TextTable

ARTIFACT_FOLDER = "report"
PAGE = "report.html"
FIGURES = ("cold-by-k.png", "trade-off.png", "gates.png", "gains.png", *(f"{name}.png" for name in COMPARED))
FILES = (PAGE, "results.md", "results.csv", "results.tex", *FIGURES)
CAPTIONS = {
    "cold-by-k": "Cold NDCG@10 and Recall@10 against K: mean and standard deviation over seeds. The line and band "
    "are the baseline's.",
    "trade-off": "Cold against warm NDCG@10. Left: what the selection tried, on warm items that played cold ones, each a "
    "curve over the exposure of cold items. Right: the test users, mean and standard deviation over seeds. "
    "Up is better for cold items, "
    "right for warm ones.",
    "gates": "Gates of the cold items: 0 keeps an item's own residual, 1 takes its neighbours'.",
    "gains": "NDCG@10 gained over the baseline by how often the target was in training; intervals are over users.",
} | COMPARED
_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
}


@dataclass(frozen=True)
class Report:
    """A sweep's results, checked and aggregated."""

    record: SweepRecord
    results: Sequence[CellResult]
    left_out: Sequence[LeftOut]
    tables: Tables
    comparison: Comparison

    @property
    def compares(self) -> bool:
        """Whether it is a comparison on users with a cold target."""
        return self.record.spec.dataset.cold_users is not None

    @property
    def headline(self) -> str:
        """The finding in words."""
        say = words.compared_headline if self.compares else wording.headline
        return say(self.record.spec, self.tables)

    def text_tables(self) -> list[TextTable]:
        """Return the tables in which results stand, the first of them first; what is empty is left out."""
        spec, tables, more = self.record.spec, self.tables, self.comparison
        if self.compares:
            made = [words.comparison_table(tables, more), wording.difference_table(tables)]
            made += [words.cost_table(more)]
            made += [words.analysis_table(name, points) for name, points in more.analyses.items()]
            made += [words.growth_table(more), words.graph_table(more), words.search_table(more)]
        else:
            made = [wording.results_table(tables, protocol, protocol.column) for protocol in spec.protocols]
            made += [
                wording.difference_table(tables),
                wording.selection_table(tables),
                wording.gain_table(tables),
            ]
        return [table for table in made if table.rows]

    def notes(self) -> list[str]:
        """Return how the numbers were made and what they do not say."""
        if self.compares:
            return words.compared_notes(self.record.spec, self.tables)
        return wording.notes(self.tables)


def make_report(record: SweepRecord) -> Report:
    """Check and aggregate a sweep."""
    results, left_out = validate(record)
    tables = aggregate(record.spec, results)
    return Report(record, results, left_out, tables, compare(results, tables))


def write_report(report: Report, out: str | Path, *, log: bool = True) -> list[Path]:
    """Write the report to the folder `out`, whole or not at all; return the files.

    With `log` they also become artifacts of the sweep's run, under `report/`. A folder that holds a report is
    replaced. Raises UserError when `out` holds anything else.
    """
    target = Path(out).expanduser().absolute()
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        names = _write_files(report, fresh)
        if target.exists():
            target.rename(Path(scratch) / "old")
        shutil.move(fresh, target)
    if log:
        with reaching(report.record.uri):
            MlflowClient(report.record.uri).log_artifacts(report.record.run_id, str(target), ARTIFACT_FOLDER)
    return [target / name for name in names]


def _check_target(target: Path) -> None:
    """Raise UserError unless `target` is new, empty, or holds a report and nothing more."""
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: is a file; name a folder for the report")
    others = (
        sorted(path.name for path in target.iterdir() if path.name not in FILES) if target.exists() else []
    )
    if others:
        raise UserError(f"{target}: holds {others[0]}, which is no part of a report; name a new folder")


def _write_files(report: Report, folder: Path) -> list[str]:
    """Write every file of the report; return their names."""
    tables, more = report.tables, report.comparison
    drawn = draw_comparison(tables, more) if report.compares else figures.draw(tables)
    for name, figure in drawn.items():
        (folder / f"{name}.png").write_bytes(figures.png(figure))
    svgs = {name: figures.svg(figure, name) for name, figure in drawn.items()}
    (folder / PAGE).write_text(_html(report, svgs), encoding="utf-8")
    (folder / "results.md").write_text(_markdown(report), encoding="utf-8")
    (folder / "results.csv").write_text(_csv(report.tables), encoding="utf-8")
    (folder / "results.tex").write_text(_latex(report), encoding="utf-8")
    return sorted(path.name for path in folder.iterdir())


def rich_table(report: Report) -> RichTable:
    """Return the headline results for a terminal."""
    table = RichTable(box=None, pad_edge=False)
    for column in ("method", "seeds", "cold NDCG@10", "cold Rec.@10", "NDCG@10", "p (Holm)"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for row in report.tables.rows:
        difference = report.tables.difference(row, HEADLINE_METRIC)
        p = wording.p_value(difference.p_holm) if difference else wording.DASH
        cold = wording.spread(row.headline[HEADLINE_METRIC])
        others = [wording.number(row.headline[metric].mean) for metric in ("cold_Recall@10", "NDCG@10")]
        last = "baseline" if row is report.tables.baseline else p
        table.add_row(row.label, str(len(row.seeds)), cold, *others, last)
    return table


def to_json(report: Report) -> dict[str, object]:
    """Return the results as JSON-like data: what `--json` prints. What is no number is null."""
    return {
        "sweep": report.record.spec.name,
        "sweep_id": report.record.spec.sweep_id,
        "run_id": report.record.run_id,
        "headline": report.headline,
        "results": [
            {
                "method": row.method,
                "k": row.k,
                "seeds": row.seeds,
                "run_ids": row.run_ids,
                "metrics": {
                    metric: {"mean": _finite(value.mean), "std": _finite(value.std)}
                    for metric, value in row.headline.items()
                },
            }
            for row in report.tables.rows
        ],
        "differences": [
            {
                "method": item.label,
                "metric": item.metric,
                "mean": _finite(item.interval.mean),
                "low": _finite(item.interval.low),
                "high": _finite(item.interval.high),
                "p": _finite(item.p),
                "p_holm": _finite(item.p_holm),
                "p_seeds": _finite(item.p_seeds),
            }
            for item in report.tables.differences
        ],
        "left_out": [item._asdict() for item in report.left_out],
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def _html(report: Report, svgs: dict[str, str]) -> str:
    """Return the page. Every text is escaped but the figures, whose text matplotlib has escaped."""
    template = (
        resources.files("coldray.sweep").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    spec, tables = report.record.spec, report.tables
    drawn = {name: {"svg": Markup(svg), "caption": CAPTIONS[name]} for name, svg in svgs.items()}  # noqa: S704  (see above)
    return environment.from_string(template).render(
        name=spec.name,
        sweep_id=spec.sweep_id,
        run_id=report.record.run_id,
        counted=len(report.results),
        expected=len(spec.cells),
        headline=report.headline,
        baseline=tables.baseline.label if tables.baseline else "",
        differences=wording.difference_table(tables),
        notes=report.notes(),
        left_out=wording.left_out_table(report.left_out),
        settings=wording.settings_table(spec),
        runs=wording.runs_table(report.results),
        **(_compared(report, drawn) if report.compares else _swept(report, drawn)),
    )


def _swept(report: Report, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of a sweep over all test users has."""
    tables = report.tables
    return {
        "results": wording.results_table(tables, a.HEADLINE, "results"),
        "figures": list(drawn.values()),
        "selection": wording.selection_table(tables),
        "gains": wording.gain_table(tables),
        "others": [wording.results_table(tables, of, of.column) for of in a.PROTOCOLS[1:]],
        "sections": [],
        "examples": (),
    }


def _compared(report: Report, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of a comparison on users with a cold target has."""
    tables, more = report.tables, report.comparison
    empty = TextTable("", "", (), ())
    analyses = [words.analysis_table(name, points) for name, points in more.analyses.items()]
    sections = [
        ("made-up", "Made-up titles", words.MADE_UP, []),
        ("costs", "", "", [words.cost_table(more)]),
        ("analyses", "Settings of ColdRAG", "", analyses),
        ("growth", "", "", [words.growth_table(more)]),
        ("graph", "", "", [words.graph_table(more)]),
        ("searches", "", "", [words.search_table(more)]),
    ]
    return {
        "results": words.comparison_table(tables, more),
        "figures": [drawn["comparison"]] if "comparison" in drawn else [],
        "selection": wording.selection_table(tables),
        "gains": empty,
        "others": [],
        "sections": [
            {
                "title": title or shown[0].title,
                "note": note or (shown[0].note if len(shown) == 1 else ""),
                "tables": shown,
                "figure": drawn.get(name),
            }
            for name, title, note, tables_of in sections
            if (shown := [table for table in tables_of if table.rows]) or name in drawn
        ],
        "examples": more.examples,
    }


def _markdown(report: Report) -> str:
    """Return the tables as Markdown."""
    spec = report.record.spec
    parts = [f"# {_md(spec.name)}", _md(report.headline)]
    shown = [*report.text_tables(), wording.left_out_table(report.left_out)]
    shown += [wording.settings_table(spec), wording.runs_table(report.results)]
    for table in shown:
        if table.rows:
            lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
            text = "\n".join("| " + " | ".join(map(_md, line)) + " |" for line in lines)
            parts.append(f"## {_md(table.title)}\n\n{text}")
    parts.append("## How to read this\n\n" + "\n".join(f"- {_md(note)}" for note in report.notes()))
    return "\n\n".join(parts) + "\n"


def _md(text: str) -> str:
    for character in "\\|`<[*_":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _csv(tables: Tables) -> str:
    """Return one line per variant, setting and metric, with the runs that it comes from."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    header = (
        "method",
        "k",
        "recommend-cold-items",
        "filter-cold-items",
        "metric",
        "mean",
        "std",
        "seeds",
        "runs",
    )
    writer.writerow(header)
    for row in tables.rows:
        for protocol, values in row.values.items():
            for metric, value in values.items():
                setting = (protocol.recommend_cold, protocol.filter_cold)
                seeds, runs = " ".join(map(str, row.seeds)), " ".join(row.run_ids)
                writer.writerow((row.method, row.k, *setting, metric, value.mean, value.std, seeds, runs))
    return sink.getvalue()


def _latex(report: Report) -> str:
    """Return the table of results and that of differences, to be set with booktabs."""
    first = [
        wording.results_table(report.tables, a.HEADLINE, "results"),
        wording.difference_table(report.tables),
    ]
    shown = report.text_tables() if report.compares else [table for table in first if table.rows]
    return "\n".join(map(_tabular, shown))


def _tabular(table: TextTable) -> str:
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in (table.columns, *table.rows)]
    columns = "l" + "r" * (len(table.columns) - 1)
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"% {' '.join(table.title.split())}\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))
