"""Grouped metrics against scikit-learn a group at a time and against torchmetrics' retrieval.

    python -m benchmarks.metrics [--quick]

73,000 impressions with 2.7 million rows (the shape of MIND's dev split, random labels and scores):
GAUC, MRR, nDCG@5 and nDCG@10. Ours measures all of them; the others, whose cost grows with the
number of impressions, measure an evenly spaced subset and are extrapolated from it by impressions.
Half the subset is timed too: the two extrapolations show how linear that is. scikit-learn has no
MRR, so it gets one line of numpy. One thread, CPU seconds; ours is the median of its turns.

Scores are distinct and between 0 and 1, as torchmetrics expects: it drops positives with a score of
0 or less from MRR, takes the sigmoid of others in AUC, where large scores become equal, and breaks
ties by position. A second, tied set is checked against scikit-learn alone, without timing.
"""

from __future__ import annotations

import argparse
import resource
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import ndcg_score, roc_auc_score
from torchmetrics.retrieval import RetrievalAUROC, RetrievalMRR, RetrievalNormalizedDCG

from benchmarks.report import finish
from legos.metrics import GroupedMetrics, grouped_metrics

NAMES = ("GAUC", "MRR", "nDCG@5", "nDCG@10")
IMPRESSIONS, ROWS = 73_000, 2_700_000
SKLEARN_TARGET, TORCHMETRICS_TARGET, MEMORY_TARGET = 300, 30, 1e9
TOLERANCE = 1e-6
SUBSETS = {True: 1_500, False: 10_000}  # impressions the others measure, by --quick


@dataclass(frozen=True)
class Ranked:
    """Scores ``(M,)`` float32, labels ``(M,)`` int8 and offsets ``(G + 1,)`` int64."""

    scores: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def some(self, count: int) -> tuple[np.ndarray, Ranked]:
        """``count`` evenly spaced groups: their numbers, and they alone."""
        chosen = np.linspace(0, len(self) - 1, count).astype(np.int64)
        sizes = np.diff(self.offsets)[chosen]
        rows = np.concatenate(
            [np.arange(self.offsets[group], self.offsets[group + 1]) for group in chosen]
        )
        offsets = np.concatenate([[0], sizes.cumsum()])
        return chosen, Ranked(self.scores[rows], self.labels[rows], offsets)


def make_ranked(seed: int = 0) -> Ranked:
    """Log-normal sizes of 2 to 300, 4 % clicks, both classes in every group, distinct scores."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(3.2, 0.95, IMPRESSIONS), 2, 300)
    sizes = np.maximum(2, np.rint(sizes * ROWS / sizes.sum())).astype(np.int64)
    offsets = np.concatenate([[0], sizes.cumsum()])
    rows = int(offsets[-1])
    labels = (rng.random(rows) < 0.04).astype(np.int8)
    labels[offsets[:-1]], labels[offsets[1:] - 1] = 1, 0
    scores = ((rng.permutation(rows) + 1) / (rows + 1)).astype(np.float32)
    assert len(np.unique(scores)) == rows, "float32 cannot tell that many scores apart"
    return Ranked(scores, labels, offsets)


def sklearn_metrics(data: Ranked) -> dict[str, np.ndarray]:
    """Every metric of every group ``(G,)``, a group at a time."""
    values = np.empty((len(data), len(NAMES)))
    for group in range(len(data)):
        rows = slice(data.offsets[group], data.offsets[group + 1])
        score, label = data.scores[rows], data.labels[rows]
        first = np.argmax(label[np.argsort(-score)])
        values[group] = (
            roc_auc_score(label, score),
            1 / (first + 1),
            ndcg_score([label], [score], k=5),
            ndcg_score([label], [score], k=10),
        )
    return dict(zip(NAMES, values.T, strict=True))


def torchmetrics_metrics(data: Ranked) -> dict[str, float]:
    """The mean of every metric, as its documentation computes them."""
    indexes = torch.from_numpy(np.repeat(np.arange(len(data)), np.diff(data.offsets)))
    scores, labels = torch.from_numpy(data.scores), torch.from_numpy(data.labels).long()
    metrics = (
        RetrievalAUROC(),
        RetrievalMRR(),
        RetrievalNormalizedDCG(top_k=5),
        RetrievalNormalizedDCG(top_k=10),
    )
    values = {}
    for name, metric in zip(NAMES, metrics, strict=True):
        metric.update(scores, labels, indexes=indexes)
        values[name] = float(metric.compute())
    return values


def ours_of(data: Ranked) -> GroupedMetrics:
    """All metrics at once."""
    return grouped_metrics(data.scores, data.labels, data.offsets, NAMES)


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one call, and its result."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def extrapolated(work: Callable[[Ranked], Any], data: Ranked, count: int) -> tuple[float, float]:
    """Seconds for all groups, extrapolated from ``count`` groups and from half as many."""
    seconds = []
    for part in (count, count // 2):
        subset = data.some(part)[1]
        seconds.append(cpu_seconds(lambda subset=subset: work(subset))[0] * len(data) / part)
    return seconds[0], seconds[1]


def peak_memory(data: Ranked) -> tuple[int, int]:
    """Most bytes allocated at once (tracemalloc) and growth of the process's resident peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours_of(data)
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    tracemalloc.start()
    ours_of(data)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return traced, resident


def largest_difference(data: Ranked, count: int) -> dict[str, float]:
    """Ours against the others on ``count`` groups; the tied set against scikit-learn."""
    chosen, subset = data.some(count)
    ours = ours_of(data).per_group
    theirs = sklearn_metrics(subset)
    means = torchmetrics_metrics(subset)
    # 8 levels of scores: almost every group has ties
    tied = Ranked(np.floor(subset.scores * 8), subset.labels, subset.offsets)
    ours_tied, theirs_tied = ours_of(tied).per_group, sklearn_metrics(tied)
    return {
        "sklearn": max(float(np.abs(ours[n][chosen] - theirs[n]).max()) for n in NAMES),
        "torchmetrics": max(abs(float(ours[n][chosen].mean()) - means[n]) for n in NAMES),
        "sklearn, ties": max(
            float(np.abs(ours_tied[n] - theirs_tied[n]).max()) for n in NAMES if n != "MRR"
        ),
    }


def main() -> None:
    """Run both sides and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="smaller subsets for the others")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    data, count = make_ranked(), SUBSETS[quick]
    print(f"{len(data):,} impressions, {len(data.scores):,} rows; {', '.join(NAMES)}")
    traced, resident = peak_memory(data)
    ours = float(np.median([cpu_seconds(lambda: ours_of(data))[0] for _ in range(9)]))
    memory = f"peak {traced / 1e6:.0f} MB, resident +{resident / 1e6:.0f} MB"
    print(f"{'ours':13} {ours:9.3f} s   {memory}")
    other, ratio = {}, {}
    for name, work in (("sklearn", sklearn_metrics), ("torchmetrics", torchmetrics_metrics)):
        whole, half = extrapolated(work, data, count)
        other[name], ratio[name] = whole, whole / ours
        print(
            f"{name:13} {whole:9.1f} s   {ratio[name]:,.0f} x, extrapolated from {count:,} "
            f"impressions ({half:.1f} s from half of them)"
        )
    differences = largest_difference(data, min(count, 1_500))
    for name, difference in differences.items():
        print(f"largest difference to {name}: {difference:.1e}")
    same = all(difference <= TOLERANCE for difference in differences.values())
    finish(
        name="metrics",
        ours={"seconds": ours, "peak_bytes": traced},
        other=other,
        ratio=ratio,
        target={
            "sklearn": SKLEARN_TARGET,
            "torchmetrics": TORCHMETRICS_TARGET,
            "peak_bytes": MEMORY_TARGET,
        },
        holds=same
        and ratio["sklearn"] >= SKLEARN_TARGET
        and ratio["torchmetrics"] >= TORCHMETRICS_TARGET
        and traced < MEMORY_TARGET,
    )


if __name__ == "__main__":
    main()
