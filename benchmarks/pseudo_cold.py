"""Can warm items stand for cold ones? Transfers measured on the real cold items and on two kinds of stand-ins.

    python benchmarks/pseudo_cold.py --dataset data/amazon-office --split strict_cold

withheld: the residuals of some warm items are taken away after training; costs no training.
probe: a model is trained without these items, as `delta+selected` does.
test: the real cold items and the test users; nothing is ever chosen by them, this is to check the other two.
"""

import argparse

import numpy as np
import pyarrow.compute as pc
import torch
from rich.console import Console
from rich.table import Table

from coldray.data.dataset import Split, load_split
from coldray.data.pseudo_cold import pseudo_cold_split
from coldray.encode.embeddings import load_embeddings
from coldray.encode.reduce import item_vectors
from coldray.models.sasrec import SASRecSettings
from coldray.training import Backbone, TrainingSettings, train
from coldray.transfer import Gate, Probe, TransferSettings
from coldray.transfer.judge import Judge

ENCODER = SASRecSettings(dim=64, dropout=0.2, max_length=50)
TRANSFERS = {
    "none": None,
    "K=10, the paper's": TransferSettings(gate=Gate()),
    "K=1": TransferSettings(k=1, gate=None),
    "K=3": TransferSettings(k=3, gate=None),
    "K=3, rescaled": TransferSettings(k=3, gate=None, rescale=True),
    "K=3, rescaled, in the embedding": TransferSettings(k=3, gate=None, rescale=True, space="embedding"),
}


def embedding_of(args: argparse.Namespace, split: Split) -> np.ndarray:
    """Return the embedding of a split's items, row 0 zero."""
    raw = load_embeddings(args.dataset, args.embedding, split.item_ids)
    return np.vstack([np.zeros((1, raw.shape[1]), np.float32), raw])


def trained(args: argparse.Namespace, split: Split) -> tuple[Backbone, np.ndarray, np.ndarray]:
    """Return a backbone, its item vectors and the embedding that they were reduced from."""
    embedding = embedding_of(args, split)
    content = item_vectors(embedding, split.num_warm, ENCODER.dim)
    backbone = train(split, TrainingSettings(encoder=ENCODER), args.seed, content)
    return backbone, content, embedding


def judges(args: argparse.Namespace) -> dict[str, Judge]:
    """Return what measures transfers on each kind of cold items."""
    split = load_split(args.dataset, args.split)
    backbone, content, embedding = trained(args, split)
    residuals = backbone.residuals.numpy()
    test = Probe(
        backbone.encoder,
        content,
        {"embedding": embedding},
        residuals,
        split.num_warm,
        split.validation,
        split.test,
    )
    found = {"test": Judge(test, args.users, 0)}
    for part in range(args.parts):
        inner = pseudo_cold_split(split, 0.1, part)
        rows = np.concatenate([[0], pc.index_in(inner.item_ids, value_set=split.item_ids).to_numpy() + 1])
        withheld = residuals[rows].copy()
        withheld[inner.num_warm + 1 :] = 0
        users = (inner.num_warm, inner.validation, inner.test)
        probe = Probe(backbone.encoder, content[rows], {"embedding": embedding[rows]}, withheld, *users)
        found[f"withheld {part}"] = Judge(probe, args.users, 0)
        other, inner_content, inner_embedding = trained(args, inner)
        own = (inner_content, {"embedding": inner_embedding}, other.residuals.numpy())
        probe = Probe(other.encoder, *own, *users)
        found[f"probe {part}"] = Judge(probe, args.users, 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="strict_cold")
    parser.add_argument("--embedding", default="minilm")
    parser.add_argument("--parts", type=int, default=2, help="sets of stand-ins")
    parser.add_argument("--users", type=int, default=10_000, help="most users of each kind")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(title="cold / warm NDCG@10, and their change against no transfer")
    table.add_column("cold items", no_wrap=True)
    for name in TRANSFERS:
        table.add_column(name, justify="right")
    for name, judge in judges(args).items():
        made = [None if transfer is None else judge.residuals(transfer) for transfer in TRANSFERS.values()]
        measured = [[float(of.mean()) for of in judge.gains(residuals)] for residuals in made]
        cold, warm = measured[0]
        cells = [f"{cold:.4f} / {warm:.4f}"]
        cells += [f"{c:.4f} / {w:.4f}\n{c / cold - 1:+.0%} / {w / warm - 1:+.1%}" for c, w in measured[1:]]
        table.add_row(f"{name}\n{judge.sizes[0]} users", *cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
