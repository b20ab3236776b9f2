"""Turn a list column of attribute ids into item vectors: TF-IDF of the attributes, reduced by a truncated SVD.

python benchmarks/attributes.py items.parquet --column attribute_ids --out data/raw/beauty/vectors.parquet
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", type=Path, help="Parquet with item_id and the column")
    parser.add_argument("--column", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dim", type=int, default=64)
    args = parser.parse_args()
    table = pq.read_table(args.items, columns=["item_id", args.column])
    lists = [[str(value) for value in values or ()] for values in table[args.column].to_pylist()]
    counts = TfidfVectorizer(analyzer=lambda values: values).fit_transform(lists)
    vectors = TruncatedSVD(args.dim, random_state=0).fit_transform(counts).astype(np.float32)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_id": table["item_id"], "embedding": list(vectors)}), args.out)
    print(f"{args.out}: {len(vectors)} items, {counts.shape[1]} attributes, {args.dim} numbers each")


if __name__ == "__main__":
    main()
