"""The tables of scaling.py, in Markdown, from the rows of its results."""

import math
from collections.abc import Callable
from typing import Any

from scaling_data import population

QUIET = 0.1
"""cores that others may use; what was measured beside more is marked"""
Result = dict[str, Any]


def show_prepare(rows: list[Result]) -> list[str]:
    """Return the table of `prepare`: sizes, and the exponents x with which time and memory grow as n^x since the row above."""
    head = "step | interactions | users | items | seconds | processor seconds | peak memory | time grows as | memory grows as"
    lines = table_head(f"{head} | others' cores", left=1)
    for step in ("prepare", "split"):
        above: Result | None = None
        for row in sorted(
            (r for r in rows if r["key"]["step"] == step), key=lambda r: r["key"]["interactions"]
        ):
            count = row["key"]["interactions"]
            users, items = population(count)
            cells = [f"`data {step}`", f"{count:,}", f"{users:,}", f"{items:,}", *spent(row)]
            grown = above is not None and row["cost"]["ended"] == above["cost"]["ended"] == "done"
            for name in ("seconds", "peak"):
                cells.append(f"n^{exponent(row, above, name):.2f}" if grown and above is not None else "")
            lines.append(line([*cells, others(row)]))
            above = row
    return lines


def exponent(row: Result, above: Result, name: str) -> float:
    """Return the slope between two rows in log-log."""
    ratio = row["key"]["interactions"] / above["key"]["interactions"]
    return math.log(row["cost"][name] / above["cost"][name]) / math.log(ratio)


def show_sweep(rows: list[Result]) -> list[str]:
    """Return the table of `sweep`; efficiency is the gain over one worker by the number of workers."""
    head = "interactions | trainings x epochs | trials at once | trainings/hour | sequences/s | of one training | efficiency"
    lines = table_head(f"{head} | whole run (s) | peak memory | others' cores")
    for row in sorted(rows, key=lambda r: list(r["key"].values())[1:]):
        key, cost = row["key"], row["cost"]
        cells = [f"{key['interactions']:,}", f"{key['trainings']} x {key['epochs']}", str(key["workers"])]
        if "span" in row:
            cells += [
                f"{3600 * key['trainings'] / row['span']:,.0f}",
                f"{row['sequences'] / row['span']:,.0f}",
            ]
            cells += [
                f"{row['rate']:,.0f}",
                efficiency(row, rows, "workers", lambda r: r["sequences"] / r["span"]),
            ]
        else:
            cells += [f"ended: {cost['ended']}", "", "", ""]
        lines.append(line([*cells, f"{cost['seconds']:.0f}", gigabytes(cost["peak"]), others(row)]))
    return lines


def show_graph(rows: list[Result]) -> list[str]:
    """Return the table of `graph`; rates are from the first question to the last answer, without the models' start."""
    head = "items | engines | cores of each | items/hour | tokens read/s | written/s | efficiency | read, written an item"
    lines = table_head(f"{head} | failed | whole run (s) | peak memory | others' cores")
    for row in sorted(rows, key=lambda r: list(r["key"].values())[1:]):
        key, cost = row["key"], row["cost"]
        cells = [f"{key['items']:,}", str(key["engines"]), str(key["cores"])]
        if "usage" in row:
            read, written = (row["usage"][f"{name}_tokens"] for name in ("prompt", "completion"))
            took, made = row["answering"], row["described"]
            cells += [f"{3600 * made / took:,.0f}", f"{read / took:,.0f}", f"{written / took:,.0f}"]
            cells += [
                efficiency(row, rows, "engines", lambda r: r["usage"]["completion_tokens"] / r["answering"])
            ]
            cells += [f"{read / made:,.0f}, {written / made:,.0f}", str(row["failed"])]
        else:
            cells += [f"ended: {cost['ended']}", "", "", "", "", ""]
        lines.append(line([*cells, f"{cost['seconds']:.0f}", gigabytes(cost["peak"]), others(row)]))
    return lines


def efficiency(row: Result, rows: list[Result], name: str, rate: Callable[[Result], float]) -> str:
    """Return what share of `name` times the rate of one a row has, "" where one was not measured."""
    alone = [r for r in rows if r["key"] == row["key"] | {name: 1} and set(row) <= set(r)]
    return f"{rate(row) / rate(alone[0]) / row['key'][name]:.0%}" if alone else ""


def spent(row: Result) -> list[str]:
    cost = row["cost"]
    seconds = (
        f"{cost['seconds']:,.1f}"
        if cost["ended"] == "done"
        else f"ended ({cost['ended']}) after {cost['seconds']:,.0f}"
    )
    return [seconds, f"{cost['processor']:,.1f}", gigabytes(cost["peak"])]


def others(row: Result) -> str:
    used = row["cost"]["others"]
    return f"{used:.1f}" + (" DISTURBED" if used > QUIET else "")


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def table_head(names: str, left: int = 0) -> list[str]:
    number = names.count("|") + 1
    return [f"| {names} |", "|" + "---|" * left + "---:|" * (number - left)]


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
