"""The bound on what a transfer can do: cold items whose residuals were trained with their true interactions.

    python benchmarks/oracle.py --dataset data/amazon-office [--split strict_cold] [--embedding minilm] [--seed 42]

Trains `delta` twice with the same settings: as it is, and with the histories of the test users, cold items included, as
training sequences (never their targets). Both rank the same test users. Prints one table; nothing is chosen by it.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from coldray.data.dataset import Sequences, Split, load_split
from coldray.encode.embeddings import load_embeddings
from coldray.encode.reduce import item_vectors
from coldray.evaluation import evaluate, ndcg
from coldray.models.sasrec import SASRecSettings
from coldray.models.scorers import SASRecScorer
from coldray.training import TrainingSettings, train


def knowing(split: Split) -> Split:
    """Return `split` with all items warm and what test users had before their target as training sequences."""
    users = split.test
    sequences = Sequences(users.users, users.offsets, users.items)
    counts = np.bincount(users.items, minlength=split.num_items + 1)
    return replace(split, num_warm=split.num_items, train=sequences, train_counts=counts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="strict_cold")
    parser.add_argument("--embedding", default="minilm")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    split = load_split(args.dataset, args.split)
    raw = load_embeddings(args.dataset, args.embedding, split.item_ids)
    embedding = np.vstack([np.zeros((1, raw.shape[1]), np.float32), raw])
    settings = TrainingSettings(encoder=SASRecSettings(dim=64, dropout=0.2, max_length=50))
    content = item_vectors(embedding, split.num_warm, settings.encoder.dim)
    table = Table("trained on", "cold NDCG@10", "warm NDCG@10", "NDCG@10", title=args.dataset)
    for label, known in (("warm items", split), ("all items, the oracle", knowing(split))):
        backbone = train(known, settings, args.seed, content)
        scorer = SASRecScorer(backbone.encoder, backbone.embedding.table().detach())
        ranked = evaluate(scorer, split.test, split.num_warm, headline_only=True)
        gains = ndcg(ranked.rank_all_kept)
        means = (gains[ranked.cold].mean(), gains[~ranked.cold].mean(), gains.mean())
        table.add_row(label, *(f"{mean:.4f}" for mean in means))
    Console().print(table)


if __name__ == "__main__":
    main()
