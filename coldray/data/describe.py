"""What a data set and a split hold: counts, shares and distributions as figures, text and pictures.

Interactions are read a part at a time; what stays in memory is a number for each user and item.
"""

import itertools
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from pyarrow import fs

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import MANIFEST, Int64, Split, load_split, read_manifest, split_folder

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
WARM, COLD, NEUTRAL = "#c96f2e", "#2f6f9f", "#4a5a6a"


class Description:
    """A data set, and if asked for one of its splits, as arrays to describe."""

    def __init__(self, dataset: str | os.PathLike[str], split: str | None = None) -> None:
        fix = f"run: coldray data prepare SOURCE --out {os.fspath(dataset)}"
        self.dataset = os.fspath(dataset)
        self.manifest = read_manifest(dataset, "a data set", fix)
        self.split: Split | None = None
        if split is not None:
            self.split = load_split(dataset, split)
            self.split_manifest = storage.read_json(storage.join(split_folder(dataset, split), MANIFEST))
        self.lengths, self.popularity, self.times = _distributions(storage.join(dataset, "interactions"))

    def figures(self) -> dict[str, Any]:
        """Return everything that is described as JSON-like data."""
        figures: dict[str, Any] = {
            "dataset": self.dataset,
            "fingerprint": self.manifest["fingerprint"],
            "source": self.manifest["source"],
            "counts": self.manifest["counts"],
            "skipped": self.manifest["skipped"]["count"],
            "sequence_length": _distribution(self.lengths),
            "item_popularity": _distribution(self.popularity),
        }
        if self.times is not None:
            figures["time"] = {"first": int(self.times.min()), "last": int(self.times.max())}
        if self.split is not None:
            figures["split"] = _split_figures(self.split, self.split_manifest)
        return figures

    def draw(self, path: str) -> None:
        """Write a picture of the distributions to `path`; its ending says the format (png, svg, pdf)."""
        figure = Figure(figsize=(10, 7.2), dpi=150, layout="constrained")
        (a, b), (d, e) = figure.subplots(2, 2)
        _draw_lengths(a, self.lengths)
        _draw_popularity(b, self.popularity)
        if self.times is None:
            _draw_concentration(d, self.popularity)
        else:
            _draw_times(d, self.times)
        if self.split is None:
            _draw_coverage(e, self.lengths)
        else:
            _draw_cold(e, _split_figures(self.split, self.split_manifest))
        for axes in (a, b, d, e):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_axisbelow(True)
            axes.grid(True, axis="x" if axes is e and self.split else "both", color="#e6e8eb", linewidth=0.7)
        counts = self.manifest["counts"]
        name = os.path.basename(self.dataset.rstrip("/")) + (f" · {self.split.name}" if self.split else "")
        figure.suptitle(
            f"{name}   {counts['users']:,} users, {counts['items']:,} items, "
            f"{counts['interactions']:,} interactions",
            fontsize=12,
            x=0.01,
            ha="left",
        )
        figure.savefig(path)


def _distributions(folder: str) -> tuple[Int64, Int64, Int64 | None]:
    """Return [users] interactions of each user, [items] of each item, and a sample of the times if known."""
    file_system, path = storage.resolve(folder)
    lengths, times, total = list[Int64](), list[Int64](), pa.table({c.ITEM: pa.array([], pa.string())})
    total = total.append_column("n", pa.array([], pa.int64()))
    for info in sorted(file_system.get_file_info(fs.FileSelector(path)), key=lambda info: info.path):
        part = storage.read_table(storage.join(folder, info.base_name), [c.USER, c.ITEM, c.TIME])
        lengths.append(pc.value_counts(part[c.USER]).field("counts").to_numpy(zero_copy_only=False))
        counted = pc.value_counts(part[c.ITEM])
        more = pa.table({c.ITEM: counted.field("values"), "n": counted.field("counts")})
        total = pa.concat_tables([total, more]).group_by(c.ITEM).aggregate([("n", "sum")])
        total = total.rename_columns([c.ITEM, "n"])
        if part[c.TIME].null_count == 0:
            stamps = part[c.TIME].to_numpy()
            times.append(stamps[:: max(1, len(stamps) // 100_000)])
    known = np.concatenate(times) if times else None
    return np.concatenate(lengths), np.sort(total["n"].to_numpy())[::-1].astype(np.int64), known


def _distribution(values: Int64) -> dict[str, Any]:
    """Return mean, quantiles, and how many of the values lie in 1, 2, 3-4, 5-8 and so on."""
    edges = [0, *(2**power for power in range(int(values.max()).bit_length() + 1))]
    edges = edges[: int(np.searchsorted(edges, values.max())) + 1]
    counts, _ = np.histogram(values, bins=np.array([edge + 0.5 for edge in edges]))
    bins = [
        f"{low + 1}" if low + 1 == high else f"{low + 1}-{high}" for low, high in itertools.pairwise(edges)
    ]
    quantiles = {f"{q:g}": float(np.quantile(values, q)) for q in QUANTILES}
    return {
        "mean": float(values.mean()),
        "quantiles": quantiles,
        "histogram": dict(zip(bins, counts.tolist(), strict=True)),
    }


def _split_figures(split: Split, manifest: dict[str, Any]) -> dict[str, Any]:
    cold = split.cold
    return {
        "name": split.name,
        "fingerprint": split.fingerprint,
        "recipe": manifest["recipe"],
        "notes": manifest.get("notes", []),
        "items": split.num_items,
        "cold_items": split.num_cold,
        "train_users": len(split.train),
        "validation_users": len(split.validation),
        "test_users": len(split.test),
        "cold_share": {
            "items": split.num_cold / split.num_items,
            "test_targets": float(cold[split.test.targets].mean()),
            "test_histories": float(cold[split.test.items].mean()),
        },
    }


def _draw_lengths(axes: Any, lengths: Int64) -> None:
    edges = np.unique(np.geomspace(1, lengths.max() + 1, 40).astype(int))
    axes.hist(lengths, bins=edges, color=NEUTRAL, edgecolor="white", linewidth=0.4)
    axes.set(xscale="log", xlim=(lengths.min() * 0.8, None))
    axes.set(title="Sequence length", xlabel="interactions of a user", ylabel="users")
    axes.margins(y=0.14)  # room for the median
    median = float(np.median(lengths))
    axes.axvline(median, color=WARM, linewidth=1.2)
    axes.annotate(
        f"median {median:g}", (median, 0.95), xycoords=("data", "axes fraction"), xytext=(5, 0),
        textcoords="offset points", color=WARM, va="top",
    )  # fmt: skip


def _draw_popularity(axes: Any, popularity: Int64) -> None:
    axes.plot(np.arange(1, len(popularity) + 1), popularity, color=NEUTRAL, linewidth=1.8)
    axes.set(
        xscale="log", yscale="log", title="Item popularity", xlabel="rank of the item", ylabel="interactions"
    )


def _draw_concentration(axes: Any, popularity: Int64) -> None:
    share = np.concatenate([[0], np.cumsum(popularity) / popularity.sum()]) * 100
    axes.plot(np.linspace(0, 100, len(share)), share, color=NEUTRAL, linewidth=1.8)
    axes.plot([0, 100], [0, 100], color="#b8bec5", linewidth=1, linestyle="--")
    axes.set(title="Concentration", xlabel="% of items, most popular first", ylabel="% of interactions")


def _draw_times(axes: Any, times: Int64) -> None:
    seconds = times / 10.0 ** max(0, 3 * ((len(str(int(times.max()))) - 8) // 3))
    axes.hist(seconds.astype("datetime64[s]"), bins=40, color=NEUTRAL, edgecolor="white", linewidth=0.4)
    axes.set(
        title="Interactions over time", ylabel="interactions" + (" (sample)" if len(times) > 99_999 else "")
    )
    for label in axes.get_xticklabels():
        label.set(rotation=20, ha="right")


def _draw_coverage(axes: Any, lengths: Int64) -> None:
    ordered = np.sort(lengths)[::-1]
    share = np.concatenate([[0], np.cumsum(ordered) / ordered.sum()]) * 100
    axes.plot(np.linspace(0, 100, len(share)), share, color=NEUTRAL, linewidth=1.8)
    axes.plot([0, 100], [0, 100], color="#b8bec5", linewidth=1, linestyle="--")
    axes.set(title="Activity", xlabel="% of users, most active first", ylabel="% of interactions")


def _draw_cold(axes: Any, figures: dict[str, Any]) -> None:
    names = ["items", "test targets", "test histories"]
    cold = np.array(list(figures["cold_share"].values())) * 100
    places: npt.NDArray[np.int64] = np.arange(len(names))[::-1]
    axes.barh(places, 100 - cold, color=WARM, height=0.55, label="warm")
    axes.barh(places, cold, left=100 - cold, color=COLD, height=0.55, label="cold")
    for place, share in zip(places.tolist(), cold.tolist(), strict=True):
        axes.annotate(
            f"{share:.1f}% cold",
            (100, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=COLD,
        )
    axes.set(
        title="Cold share", xlabel="%", xlim=(0, 124), yticks=places, yticklabels=names, ylim=(-0.9, 2.6)
    )
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.legend(loc="lower left", ncols=2, frameon=False)
