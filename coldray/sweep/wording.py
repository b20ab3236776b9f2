"""What a report says in words and in tables of text, computed from the numbers and nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import COMPARED, HEADLINE_METRIC, SIGNIFICANT, Difference, Row, Statistic, Tables
from coldray.sweep.validate import CellResult, LeftOut
from coldray.transfer import TransferSettings

DASH = "–"


@dataclass(frozen=True)
class TextTable:
    """A table as it is printed: in a page, a document or a terminal."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def number(value: float) -> str:
    """Return a metric with five decimals, or a dash where there is none."""
    return DASH if math.isnan(value) else f"{value:.5f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return DASH if math.isnan(value) else f"{value:+.5f}".replace("-", "−")


def spread(value: Statistic) -> str:
    """Return mean ± standard deviation, a dash where one seed has none."""
    return DASH if math.isnan(value.mean) else f"{value.mean:.5f} ± {number(value.std)}"


def p_value(value: float) -> str:
    """Return a p value with two significant digits, not below 0.001."""
    if math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def headline(spec: a.SweepSpec, tables: Tables) -> str:
    """Return the finding in one or two sentences: whether transfer helped cold items, and how sure that is."""
    where = f"{spec.dataset.path} ({spec.dataset.split})"
    if not tables.rows:
        return f"No run on {where} may be counted yet."
    if tables.baseline is None:
        return f"No run of the baseline {spec.baseline} on {where} may be counted: there is nothing to compare with."
    if not tables.counts["cold_users"]:
        return f"No test user on {where} has a cold target: this sweep says nothing about cold items."
    found = [item for item in tables.differences if item.metric == HEADLINE_METRIC]
    # A method that chose its transfer without the test users speaks for transfer; else the best of all K does.
    transfer = {row.label for row in tables.rows if row.selections}
    transfer = transfer or {row.label for row in tables.rows if row.k is not None}
    candidates = [item for item in found if item.label in transfer] or found
    if not candidates:
        return f"Nothing was run on {where} beside the baseline {spec.baseline}."
    return _finding(where, tables, max(candidates, key=lambda item: item.interval.mean), len(candidates))


def _finding(where: str, tables: Tables, best: Difference, tried: int) -> str:
    """Return what the best variant's difference comes to."""
    row = next(row for row in tables.rows if row.label == best.label)
    before = tables.baseline.headline[HEADLINE_METRIC].mean if tables.baseline else math.nan
    after = row.headline[HEADLINE_METRIC].mean
    name = tables.baseline.label if tables.baseline else ""
    change = f"from {number(before)} to {number(after)}"
    if not math.isnan(best.relative):
        change += f" ({best.relative:+.0%})".replace("-", "−")
    interval = f"95% interval of the difference {signed(best.interval.low)} to {signed(best.interval.high)}"
    evidence = f"{interval}, adjusted p {p_value(best.p_holm)}"
    of = f", the best of {tried} tried," if tried > 1 else ""
    if best.interval.mean <= 0:
        return (
            f"Nothing tried is better than {name} for cold items on {where}: {best.label}{of} takes cold NDCG@10 "
            f"{change}; {evidence}, {'a significant loss' if best.significant else 'no significant difference'}."
        )
    if not best.significant:
        return (
            f"No significant gain for cold items on {where}: {best.label}{of} takes cold NDCG@10 {change}, "
            f"which chance may explain; {evidence}."
        )
    return f"{best.label}{of} raises cold NDCG@10 on {where} {change} over {name}; {evidence}.{_over_seeds(best)}"


def _over_seeds(best: Difference) -> str:
    """Return what the seeds add to a gain that is significant over users."""
    higher = f" It is higher for {best.seeds_higher} of {best.seeds} seeds"
    if best.seeds < 2:
        return " One seed only: whether another training would give it, this sweep cannot say."
    if math.isnan(best.p_seeds):
        return f"{higher}."
    sure = (
        ""
        if best.p_seeds < SIGNIFICANT
        else ", too few or too different to be sure that training again gives it"
    )
    return f"{higher} (paired t over seeds, p {p_value(best.p_seeds)}){sure}."


def results_table(tables: Tables, protocol: a.Protocol, name: str) -> TextTable:
    """Return the metrics of every variant in one setting, mean ± standard deviation over seeds."""
    rows = [
        (
            row.label,
            str(len(row.seeds)),
            *(spread(row.values[protocol][metric]) for metric in a.METRICS),
            _gate(row),
        )
        for row in tables.rows
    ]
    title = f"Candidates: {protocol.label}"
    columns = ("method", "seeds", *(metric.replace("_", " ") for metric in a.METRICS), "mean gate")
    return TextTable(name, title, columns, tuple(rows))


def _gate(row: Row) -> str:
    return f"{np.mean([gates.mean() for gates in row.gates]):.3f}" if any(map(len, row.gates)) else DASH


def difference_table(tables: Tables) -> TextTable:
    """Return every difference to the baseline with its interval and p values."""
    rows = [
        (
            item.label,
            item.metric.replace("_", " "),
            signed(item.interval.mean),
            f"{signed(item.interval.low)} to {signed(item.interval.high)}",
            DASH if math.isnan(item.relative) else f"{item.relative:+.1%}".replace("-", "−"),
            p_value(item.p),
            p_value(item.p_holm) + (" *" if item.significant else ""),
            f"{item.seeds_higher} of {item.seeds}",
            p_value(item.p_seeds),
        )
        for metric in COMPARED
        for item in tables.differences
        if item.metric == metric
    ]
    columns = (
        "method",
        "metric",
        "difference",
        "95% interval",
        "relative",
        "p",
        "adjusted p",
        "seeds higher",
    )
    baseline = tables.baseline.label if tables.baseline else "the baseline"
    return TextTable("differences", f"Difference to {baseline}", (*columns, "p over seeds"), tuple(rows))


def gain_table(tables: Tables) -> TextTable:
    """Return the gain in NDCG@10 per popularity of the target."""
    rows = [
        (
            gain.label,
            gain.bucket,
            str(gain.users),
            signed(gain.interval.mean),
            f"{signed(gain.interval.low)} to {signed(gain.interval.high)}",
        )
        for gain in tables.gains
    ]
    columns = ("method", "target", "users", "NDCG@10 gained", "95% interval")
    return TextTable(
        "gains",
        "Gain by similarity of a cold target to warm items, and by training interactions of the target",
        columns,
        tuple(rows),
    )


def selection_table(tables: Tables) -> TextTable:
    """Return what each seed chose to transfer, and how that did on the items and users that it was tested on."""
    rows = []
    for row in tables.rows:
        for seed, selection in zip(row.seeds, row.selections, strict=False):
            verdict = next((item for item in selection.verdicts if item.transfer == selection.transfer), None)
            rows.append(
                (
                    str(seed),
                    chosen(selection.transfer),
                    norm_bound(selection),
                    *_verdict(verdict),
                    DASH if selection.alignment is None else f"{selection.alignment:.3f}",
                    f"{selection.seconds:.1f}",
                )
            )
    columns = (
        "seed",
        "transfer",
        "bound of the residuals",
        "pseudo-cold NDCG@10",
        "p",
        "warm NDCG@10",
        "p",
        "alignment",
        "seconds",
    )
    note = (
        "Chosen on warm items that played cold ones and on validation users; no cold item and no test user took part. "
        "Alignment: mean cosine of a warm item's residual and those of its neighbours, 0 where they say nothing."
    )
    return TextTable("selection", "Selected transfers", columns, tuple(rows), note)


def _verdict(verdict: a.VerdictSpec | None) -> tuple[str, ...]:
    """Return how the chosen transfer did, cold and warm: before and after, and the p value."""
    if verdict is None:
        return (DASH,) * 4
    (cold, warm), (new_cold, new_warm) = verdict.before, verdict.after
    changes = f"{cold:.5f} → {new_cold:.5f}", f"{warm:.5f} → {new_warm:.5f}"
    return changes[0], p_value(verdict.p[0]), changes[1], p_value(verdict.p[1])


def norm_bound(selection: a.SelectionSpec) -> str:
    """Return the bound of the residuals' norm that was chosen."""
    return "none" if selection.max_delta_norm is None else f"{selection.max_delta_norm:g}"


def chosen(transfer: dict[str, Any] | None) -> str:
    """Return the settings of a transfer that differ from the paper's, or that there is none."""
    if transfer is None:
        return "none"
    plain = TransferSettings().model_dump(mode="json")
    changed = {key: value for key, value in transfer.items() if key == "k" or value != plain.get(key)}
    gate = changed.pop("gate", None)
    also = changed.pop("also", [])
    said = [f"{key} {_short(value)}" for key, value in changed.items()]
    said += [
        f"and {item['space']} scale {_short(item['scale'])} offset {_short(item['offset'])}" for item in also
    ]
    if "gate" in transfer and transfer["gate"] is None:
        said.append("no gate")
    elif gate is not None:
        said.append(f"{gate['kind']} tau {_short(gate['tau'])} beta {_short(gate['beta'])}")
    return ", ".join(said)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def runs_table(results: Sequence[CellResult]) -> TextTable:
    """Return the runs that everything above was computed from."""
    rows = [
        (
            a.variant_label(result.cell.method, result.cell.k),
            str(result.cell.seed),
            *(number(result.values[a.HEADLINE][metric]) for metric in a.METRICS),
            DASH if math.isnan(result.seconds) else f"{result.seconds:.1f}",
            result.run_id,
        )
        for result in results
    ]
    columns = ("method", "seed", *(metric.replace("_", " ") for metric in a.METRICS), "seconds", "run")
    return TextTable("runs", "Runs", columns, tuple(rows))


def left_out_table(left_out: Sequence[LeftOut]) -> TextTable:
    """Return what was left out, and why."""
    rows = tuple((item.cell or DASH, item.run_id or DASH, item.reason) for item in left_out)
    return TextTable("left-out", "Left out", ("cell", "run", "reason"), rows)


def settings_table(spec: a.SweepSpec) -> TextTable:
    """Return the data set and every setting, with the values that the cells have of it."""
    values: dict[str, list[str]] = {}
    for cell in spec.cells:
        for group in ("model", "training", "transfer", "selection"):
            for key, value in flat(getattr(cell, group) or {}, group).items():
                values.setdefault(key, [])
                if value not in values[key]:
                    values[key].append(value)
    dataset = flat(spec.dataset.model_dump(), "dataset")
    said = dataset | {"seeds": ", ".join(map(str, spec.seeds)), "sweep id": spec.sweep_id}
    said |= {key: ", ".join(found) for key, found in values.items()}
    return TextTable("settings", "Settings", ("setting", "value"), tuple(said.items()))


def flat(value: Any, name: str) -> dict[str, str]:
    """Return nested settings as text by dotted name."""
    if isinstance(value, dict):
        return {
            key: text for part, item in value.items() for key, text in flat(item, f"{name}.{part}").items()
        }
    return {name: DASH if value is None else str(value)}


def notes(tables: Tables) -> list[str]:
    """Return how the numbers were made and what they do not say."""
    counts = tables.counts
    return [
        f"{counts['users']} test users, {counts['cold_users']} of them with a cold target and "
        f"{counts['warm_users']} with a warm one. Every item the user has not seen is ranked, unless said otherwise. "
        "± is the standard deviation over seeds (n − 1).",
        "Differences are paired by user, a user's metric being averaged over the seeds first. The interval is a "
        "percentile bootstrap over users (10,000 resamples); p is a two-sided sign-flip permutation test (10,000 "
        "random signs, so no less than 0.0001), which makes no assumption on how the many zeros and few hits spread.",
        f"Adjusted p is Holm's for the {len(tables.differences)} differences of the table; * marks those below "
        f"{SIGNIFICANT}. p over seeds is a paired t test on one value a seed: it says whether training again would "
        "give the difference again, and has little power with few seeds.",
        "Where the best of several K is named, it was chosen on these test users: expect somewhat less elsewhere.",
    ]
