"""Evaluation speed: scores from caches, and a whole test pass, against bare loops.

    python -m benchmarks.evaluate [--quick]

(1) A million (user, item) pairs scored from caches, against one gather-and-multiply in numpy-like
torch. (2) A Goodreads test pass (18,863 impressions of 21 candidates = 396,123 rows; 16,833
items): encode all items and all users, score, AUC + MRR + nDCG@5 + nDCG@10, against a hand-written
loop with the same tricks and no checks. One thread, CPU seconds, the sides take turns and the
fastest turn of each counts. Both must give the same numbers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.report import finish
from benchmarks.shapes import GOODREADS, Shape, make_interactions
from benchmarks.train import Sides
from legos.metrics import grouped_metrics
from legos.recommender import Recommender
from legos.systems.bricks.score import score_pairs, score_split

TEST = Shape(items=GOODREADS.items, impressions=18_863, history=9, negatives=20)
METRICS = ("GAUC", "MRR", "nDCG@5", "nDCG@10")
PAIRS_TARGET, PASS_TARGET = 0.7, 1.5


def sorted_metrics(scores: np.ndarray, labels: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """The four metrics as a bare loop for groups of any size writes them: lexsort and bincount."""
    order = np.lexsort((-scores, group))
    label, count = labels[order].astype(np.float64), np.bincount(group)
    start = np.concatenate([[0], count.cumsum()[:-1]])
    rank = np.arange(len(order)) - start[group] + 1
    clicks = np.bincount(group, label)
    discount = 1 / np.log2(rank + 1)
    ideal = np.concatenate([[0], (1 / np.log2(np.arange(1, count.max() + 1) + 1)).cumsum()])
    values = {}
    below = np.bincount(group, label * (count[group] - rank)) - clicks * (clicks - 1) / 2
    values["GAUC"] = float((below / (clicks * (count - clicks))).mean())
    first = np.full(len(count), np.inf)
    np.minimum.at(first, group[label > 0], rank[label > 0])
    values["MRR"] = float((1 / first).mean())
    for k in (5, 10):
        gain = np.bincount(group, label * discount * (rank <= k))
        values[f"nDCG@{k}"] = float((gain / ideal[np.minimum(clicks, k).astype(int)]).mean())
    return values


def alternate(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int
) -> tuple[float, float]:
    """Fewest CPU seconds of each, taking turns."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, run in enumerate((first, second)):
            begin = time.process_time()
            run()
            best[side] = min(best[side], time.process_time() - begin)
    return best[0], best[1]


def time_pairs(model: Recommender, rounds: int) -> tuple[tuple[float, float], bool]:
    """Seconds of both sides for a million pairs from caches, and whether they agree."""
    users, items = torch.randn(20_000, 64), torch.randn(GOODREADS.items, 64)
    owners = torch.randint(0, 20_000, (1_000_000,)).sort().values
    shown = torch.randint(0, GOODREADS.items, (1_000_000,))

    def ours() -> torch.Tensor:
        return score_pairs(model, users, items, owners, shown)

    def bare() -> torch.Tensor:
        return (users[owners] * items[shown]).sum(1)

    seconds = alternate(ours, bare, rounds)
    print(
        f"1,000,000 pairs: ours {seconds[0]:.3f} s, bare {seconds[1]:.3f} s, speed ratio "
        f"{seconds[1] / seconds[0]:.2f}"
    )
    return seconds, torch.allclose(ours(), bare(), atol=1e-4)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    rounds = 3 if parser.parse_args().quick else 8
    torch.set_num_threads(1)
    sides = Sides("NAML", GOODREADS)
    model, store = sides.training.bare_model, sides.training.store
    model.eval()
    data = make_interactions(TEST, seed=2)
    labels, group = data.labels.numpy(), data.candidates.rows.numpy()
    offsets = data.candidates.offsets.numpy()
    (ours, bare), same = time_pairs(model, rounds)
    pairs = bare / ours

    def our_pass() -> np.ndarray:
        scores = score_split(model, store, data, page_size=512).scores.numpy()
        grouped_metrics(scores, labels, offsets, METRICS)
        return scores

    def bare_pass() -> np.ndarray:
        bare = sides.bare
        vectors = torch.cat([bare.encode(ids) for ids in torch.arange(len(store)).split(512)])
        history, mask = data.histories.padded_tail(torch.arange(len(data)), 9)
        read = vectors[history]
        weights = bare.additive("user_encoder.attention", read).masked_fill(~mask, -1e9).softmax(1)
        user = (weights[..., None] * read).sum(1)
        scores = (user[data.candidates.rows] * vectors[data.candidates.values]).sum(1).numpy()
        sorted_metrics(scores, labels, group)
        return scores

    same &= bool(np.allclose(our_pass(), bare_pass(), atol=1e-5))
    noise = np.random.default_rng(0).random(len(labels))  # the bare metrics know no ties
    mine = grouped_metrics(noise, labels, offsets, METRICS).values
    theirs = sorted_metrics(noise, labels, group)
    same &= all(abs(mine[name] - theirs[name]) < 1e-6 for name in METRICS)
    ours_pass, bare_seconds = alternate(our_pass, bare_pass, rounds)
    ratio = ours_pass / bare_seconds
    print(
        f"test pass of {len(labels):,} rows: ours {ours_pass:.2f} s, bare {bare_seconds:.2f} s, "
        f"time ratio {ratio:.2f}"
    )
    finish(
        name="evaluate",
        ours={"pairs_seconds": ours, "pass_seconds": ours_pass},
        other={"pairs_seconds": bare, "pass_seconds": bare_seconds},
        ratio={"pairs_speed": pairs, "pass_time": ratio},
        target={"pairs_speed": PAIRS_TARGET, "pass_time": PASS_TARGET},
        holds=same and pairs >= PAIRS_TARGET and ratio <= PASS_TARGET,
    )


if __name__ == "__main__":
    main()
