"""Ranking all items for every user, against a loop over score matrices, top lists and users.

    python -m benchmarks.full_ranking [--quick]

20,000 users with histories of 1 to 20 items and 1 to 5 clicks, 12,000 items, vectors of 64 numbers:
Recall@20, Recall@40 and nDCG@100. The other side is what public code does: a matrix of scores for
1,000 users, history items set to -inf, ``torch.topk``, then numpy for each user. The products of
vectors are in both. One thread, CPU seconds, the sides take turns and the fastest turn of each
counts. Both must give the same numbers.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from benchmarks.evaluate import alternate
from benchmarks.report import finish
from benchmarks.shapes import ragged
from legos.data.items import States
from legos.data.ragged import Ragged
from legos.evaluation.rank import Ranking, rank
from legos.metrics.full_ranking import counted_metrics

USERS, ITEMS, WIDTH = 20_000, 12_000, 64
RECALL_AT, NDCG_AT = (20, 40), 100
NAMES = [*(f"Recall@{k}" for k in RECALL_AT), f"nDCG@{NDCG_AT}"]
TARGET = 1.5


def make_ranking(users: int, *, seed: int = 0) -> Ranking:
    """Random histories and clicks; nobody clicks what is in the history."""
    generator = np.random.default_rng(seed)
    read, clicked = generator.integers(1, 21, users), generator.integers(1, 6, users)
    drawn = np.stack([generator.choice(ITEMS, 25, replace=False) for _ in range(users)])
    columns = np.arange(25)
    excluded = np.sort(np.where(columns < read[:, None], drawn, ITEMS), axis=1)
    targets = np.sort(np.where(columns >= 25 - clicked[:, None], drawn, ITEMS), axis=1)
    rows = torch.arange(users)
    return Ranking(
        states=States(rows, rows),
        owner=rows,
        excluded=ragged(excluded[excluded < ITEMS], read),
        offered=torch.ones(ITEMS, dtype=torch.bool),
        targets=ragged(targets[targets < ITEMS], clicked),
        unlisted=0,
    )


def ours(ranking: Ranking, users: Tensor, items: Tensor) -> list[float]:
    """The three metrics from counted places."""
    found = rank(ranking, lambda states: users[states] @ items.mT)
    metrics = counted_metrics(found.positives, found.clicks, found.sizes, NAMES)
    return [metrics.values[name] for name in NAMES]


def loop(ranking: Ranking, users: Tensor, items: Tensor) -> list[float]:
    """The three metrics from top lists, user by user."""
    discounts = 1 / np.log2(np.arange(2, NDCG_AT + 2))
    found: list[list[float]] = []
    for states in torch.arange(len(users)).split(1000):
        scores = users[states] @ items.mT
        excluded: Ragged = ranking.excluded.select(states)
        scores[excluded.rows, excluded.values] = -torch.inf
        lists = torch.topk(scores, NDCG_AT).indices.numpy()
        for user, listed in zip(states.tolist(), lists, strict=True):
            begin, end = ranking.targets.offsets[user : user + 2].tolist()
            wanted = ranking.targets.values[begin:end].numpy()
            hits = np.isin(listed, wanted)
            values = [hits[:k].sum() / min(k, len(wanted)) for k in RECALL_AT]
            ideal = discounts[: min(NDCG_AT, len(wanted))].sum()
            found.append([*values, (hits * discounts).sum() / ideal])
    means: list[float] = np.mean(found, axis=0).tolist()
    return means


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the users, two rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    count, rounds = (USERS // 5, 2) if quick else (USERS, 4)
    ranking = make_ranking(count)
    users, items = torch.randn(count, WIDTH), torch.randn(ITEMS, WIDTH)
    same = np.allclose(ours(ranking, users, items), loop(ranking, users, items), atol=1e-6)
    mine, other = alternate(
        lambda: ours(ranking, users, items), lambda: loop(ranking, users, items), rounds
    )
    product, _ = alternate(
        lambda: [users[part] @ items.mT for part in torch.arange(count).split(512)],
        lambda: None,
        rounds,
    )
    print(
        f"{count:,} users x {ITEMS:,} items: ours {mine:.2f} s, loop {other:.2f} s, ratio "
        f"{other / mine:.2f}; the products alone {product:.2f} s"
    )
    finish(
        name="full_ranking",
        ours={"seconds": mine, "products_seconds": product},
        other={"seconds": other},
        ratio=other / mine,
        target=TARGET,
        holds=bool(same) and other / mine >= TARGET,
    )


if __name__ == "__main__":
    main()
