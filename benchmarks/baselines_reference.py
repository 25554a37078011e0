"""EASE and iALS on MovieLens-100k beside other people's lines for the same methods.

    python -m benchmarks.baselines_reference --interactions ml-100k.inter

The file is MovieLens-100k as RecBole ships it (recbole/dataset_example/ml-100k) or ``u.data`` of
GroupLens: user, item, rating and time between tabs. A fifth of every user's items is held out at
random (seed 2020); all others compete. EASE stands beside the lines of RecBole 1.2.1
(``ease.py``: single-precision inverse) and an inverse in float64; iALS beside ``implicit``'s exact
solver, where that library is installed, at the setting in which both minimise the same sum (no
weights by frequency, confidence 2). Goals: EASE's metrics equal to the fourth digit; iALS's, which
starts at random, within .01 of implicit's.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.report import Part, finish_parts
from legos.baselines.ease import EASE, EASEConfig
from legos.baselines.ials import IALS, IALSConfig

HELD_OUT, SEED, LONGEST = 0.2, 2020, 100
EASE_L2 = (100.0, 300.0, 500.0)
PLAIN_L2, FACTORS, ITERATIONS = 5.0, 64, 15
DIGITS, APART = 5e-5, 0.01


class Split:
    """Reads of training and of the test, users × items."""

    def __init__(self, path: Path) -> None:
        skip = int(path.open(encoding="utf-8").readline().startswith("user_id"))
        columns = ["user", "item", "rating", "time"]
        table = pd.read_csv(path, sep="\t", names=columns, skiprows=skip, dtype=str)
        users, items = pd.factorize(table.user)[0], pd.factorize(table.item)[0]
        generator, held = np.random.default_rng(SEED), np.zeros(len(table), bool)
        for rows in table.groupby(users).indices.values():
            held[generator.permutation(rows)[: max(1, int(len(rows) * HELD_OUT))]] = True
        shape = users.max() + 1, items.max() + 1

        def reads(chosen: np.ndarray) -> sparse.csr_matrix:
            ones = np.ones(int(chosen.sum()), np.float32)
            return sparse.csr_matrix((ones, (users[chosen], items[chosen])), shape=shape)

        self.train, self.test = reads(~held), reads(held).toarray() > 0
        counts = np.asarray(self.train.sum(1)).ravel()
        self.histories = sparse.diags(1 / np.maximum(counts, 1)).dot(self.train).tocsr()
        self.histories = self.histories.astype(np.float32)
        self.data: Any = SimpleNamespace(
            reads=self.train,
            popularity=np.asarray(self.train.sum(0)).ravel(),
            items=np.arange(shape[1]),
        )

    def measure(self, scores: np.ndarray) -> dict[str, float]:
        """Recall@10 and 20 (hits / min(k, held out)) and nDCG@10 and 100 of all users' lists."""
        scores = np.where(self.train.toarray() > 0, -np.inf, scores)
        best = np.argsort(-scores, 1, kind="stable")[:, :LONGEST]
        hits, held = np.take_along_axis(self.test, best, 1), self.test.sum(1)
        discounts = 1 / np.log2(np.arange(2, LONGEST + 2))
        ideal = np.concatenate([[0.0], np.cumsum(discounts)])
        found = {f"Recall@{k}": np.mean(hits[:, :k].sum(1) / np.minimum(k, held)) for k in (10, 20)}
        for k in (10, 100):
            gains = (hits[:, :k] * discounts[:k]).sum(1)
            found[f"nDCG@{k}"] = np.mean(gains / ideal[np.minimum(k, held)])
        return {name: round(float(value), 5) for name, value in found.items()}


def recbole_ease(reads: sparse.csr_matrix, l2: float) -> np.ndarray:
    """Scores by the algebra of RecBole's ``EASE``, in its precision."""
    gram = (reads.T @ reads).toarray()
    gram[np.diag_indices_from(gram)] += l2
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scores: np.ndarray = reads @ weights
    return scores


def ease(split: Split) -> Part:
    """EASE three times: ours, RecBole's lines, float64."""
    ours: dict[str, dict[str, float]] = {}
    exact: dict[str, dict[str, float]] = {}
    for l2 in EASE_L2:
        name, double = f"l2 {l2:g}", split.train.astype(np.float64)
        ours[name] = split.measure(EASE(EASEConfig(l2=l2)).fit(split.data)(split.histories))
        exact[name] = split.measure(recbole_ease(double, l2))
        theirs = split.measure(recbole_ease(split.train, l2))
        print(f"ease: {name}: ours {ours[name]}, RecBole's lines {theirs}, float64 {exact[name]}")
    worst = max(abs(value - exact[name][key]) for name in ours for key, value in ours[name].items())
    return Part(ours, exact, worst, worst <= DIGITS)


def ials(split: Split) -> Part:
    """iALS beside implicit's exact solver, two starts each.

    With no weights by frequency we minimise (1 - s)² + s² over reads, 2 (s - .5)² and a constant.
    For scores twice as large, from vectors longer by √2, implicit's sum with confidence 2 is four
    times ours if its regularisation is twice ours; the lists of both are then equal.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    reads = split.train.astype(np.float64)
    ours, theirs = {}, {}
    for seed in (1, 2):
        plain = IALSConfig(
            factors=FACTORS,
            iterations=ITERATIONS,
            unobserved=1.0,
            l2=PLAIN_L2,
            scale=0.0,
            seed=seed,
        )
        ours[f"seed {seed}"] = split.measure(IALS(plain).fit(split.data)(split.histories))
        other = AlternatingLeastSquares(
            factors=FACTORS,
            regularization=2 * PLAIN_L2,
            alpha=2.0,
            iterations=ITERATIONS,
            random_state=seed,
            use_cg=False,
            num_threads=1,
            dtype=np.float64,
        )
        other.fit(reads, show_progress=False)
        users = other.recalculate_user(np.arange(reads.shape[0]), reads)  # by the last items
        scores = np.asarray(users @ other.item_factors.T)
        theirs[f"seed {seed}"] = split.measure(scores)
        print(f"ials: seed {seed}: ours {ours[f'seed {seed}']}, implicit {theirs[f'seed {seed}']}")
    apart = max(
        abs(value - theirs[seed][key]) for seed in ours for key, value in ours[seed].items()
    )
    return Part(ours, theirs, apart, apart <= APART)


def main() -> None:
    """Run what can be run here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interactions", type=Path, required=True, help="ml-100k.inter or u.data")
    split = Split(parser.parse_args().interactions)
    users, items = split.train.shape
    print(f"{users:,} users, {items:,} items, {split.train.nnz:,} reads, {split.test.sum():,} held")
    parts, targets = {"ease": ease(split)}, {"ease": DIGITS, "ials": APART}
    if importlib.util.find_spec("implicit") is not None:
        parts["ials"] = ials(split)
    else:
        print("ials: not compared; `pip install implicit` has the other side")
    finish_parts("baselines_reference", parts, targets)


if __name__ == "__main__":
    main()
