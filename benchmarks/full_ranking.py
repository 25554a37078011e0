"""Ranking all items for every user, against a loop and against a bare product with top-k.

    python -m benchmarks.full_ranking [--quick] [--only metrics catalogue] [--threads N]

  metrics    20,000 users with histories of 1 to 20 items and 1 to 5 clicks, 12,000 items, vectors
             of 64 numbers: Recall@20, Recall@40 and nDCG@100. The other side is what public code
             does: a matrix of scores for 1,000 users, history items set to -inf, ``torch.topk``,
             then numpy for each user. The products of vectors are in both, and both must give the
             same numbers. Goal: 1.5 times as fast.
  catalogue  10,000 such users and 100,000, 300,000 and 1,000,000 items: the place of every click
             and the best 100 items of each user without the history, against ``(users @
             items.T).topk(100)`` alone, which excludes nothing and finds no places, in pages of as
             many users, written into the same memory again and again. Each side has a process of
             its own, whose peak memory is printed. On vectors of small whole numbers, whose scores
             tie by the thousand, lists and places must be those of a stable sort of all scores.
             Goal: 0.7 of the bare speed within 6 GB.

One thread unless told, CPU seconds; sides in one process take turns and the fastest turn counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.alone import alone, bar
from benchmarks.clock import cpu_seconds
from benchmarks.evaluate import alternate
from benchmarks.report import Part, finish_parts
from benchmarks.shapes import ragged
from legos.data.interactions import States
from legos.data.ragged import Ragged
from legos.evaluation.rank import Ranked, Ranking, rank, rows_at_once
from legos.metrics.full_ranking import counted_metrics
from legos.predictor.dot import Dot, DotConfig
from legos.recommender import Recommender
from legos.systems.bricks.catalogue import FactoredScores

USERS, ITEMS, WIDTH = 20_000, 12_000, 64
RECALL_AT, NDCG_AT = (20, 40), 100
NAMES = [*(f"Recall@{k}" for k in RECALL_AT), f"nDCG@{NDCG_AT}"]
CATALOGUES, READERS, LISTED = (100_000, 300_000, 1_000_000), 10_000, 100
GOALS = {"metrics": 1.5, "catalogue": 0.7}
MOST_MIB = 6e9 / 2**20


def make_ranking(users: int, items: int = ITEMS, *, seed: int = 0) -> Ranking:
    """Random histories and clicks; nobody clicks what is in the history."""
    generator = np.random.default_rng(seed)
    read, clicked = generator.integers(1, 21, users), generator.integers(1, 6, users)
    drawn = np.stack([generator.choice(items, 25, replace=False) for _ in range(users)])
    columns = np.arange(25)
    excluded = np.sort(np.where(columns < read[:, None], drawn, items), axis=1)
    targets = np.sort(np.where(columns >= 25 - clicked[:, None], drawn, items), axis=1)
    rows = torch.arange(users)
    return Ranking(
        states=States(rows, rows),
        owner=rows,
        excluded=ragged(excluded[excluded < items], read),
        offered=torch.ones(items, dtype=torch.bool),
        targets=ragged(targets[targets < items], clicked),
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


def metrics_section(quick: bool) -> Part:
    """Counted places against top lists, user by user."""
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
        f"metrics: {count:,} users x {ITEMS:,} items: ours {mine:.2f} s, loop {other:.2f} s, ratio "
        f"{other / mine:.2f}; the products alone {product:.2f} s",
        flush=True,
    )
    holds = bool(same) and other / mine >= GOALS["metrics"]
    return Part({"seconds": mine, "products_seconds": product}, other, other / mine, holds)


class Vectors(NamedTuple):
    """Of users ``(U, D)`` and items ``(N, D)``."""

    users: Tensor
    items: Tensor


def random_vectors(users: int, items: int) -> Vectors:
    """Normal numbers."""
    return Vectors(torch.randn(users, WIDTH), torch.randn(items, WIDTH))


def rank_all(ranking: Ranking, vectors: Vectors) -> Ranked:
    """Places of clicks and lists, as a test of a model with predictor `dot` finds them."""
    model = Recommender(
        item_encoder=nn.Identity(), user_encoder=nn.Identity(), predictor=Dot(DotConfig())
    )
    score = FactoredScores(model, vectors.items, vectors.users)
    return rank(ranking, score, k=LISTED)


@torch.no_grad()
def rank_alone(users: int, items: int) -> float:
    """CPU seconds of our side."""
    ranking, vectors = make_ranking(users, items), random_vectors(users, items)
    return cpu_seconds(lambda: rank_all(ranking, vectors))


@torch.no_grad()
def bare_alone(users: int, items: int) -> float:
    """CPU seconds of a matrix product with top-k and nothing else."""
    vectors, rows = random_vectors(users, items), rows_at_once(items, torch.device("cpu"))

    def run() -> None:
        page = torch.empty(rows, items)
        lists = torch.empty(users, LISTED, dtype=torch.int64)
        for some in torch.arange(users).split(rows):
            scores = torch.mm(vectors.users[some], vectors.items.mT, out=page[: len(some)])
            lists[some] = scores.topk(LISTED).indices

    return cpu_seconds(run)


@torch.no_grad()
def same_as_sorted(users: int, items: int) -> bool:
    """Whether lists and places are those of a stable sort where scores are whole numbers."""
    ranking = make_ranking(users, items)
    vectors = Vectors(
        torch.randint(-1, 2, (users, WIDTH)).float(), torch.randint(-1, 2, (items, WIDTH)).float()
    )
    found = rank_all(ranking, vectors)
    scores = vectors.users @ vectors.items.mT
    scores[ranking.excluded.rows, ranking.excluded.values] = -torch.inf
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :LISTED]
    rows = ranking.targets.rows
    own = scores[rows, ranking.targets.values][:, None]
    places = (scores[rows] > own).sum(1), (scores[rows] == own).sum(1)
    return (
        found.lists is not None
        and np.array_equal(found.lists, order.numpy())
        and np.array_equal(found.positives.above, places[0].numpy())
        and np.array_equal(found.positives.equal, places[1].numpy())
        and bool((found.positives.equal > 1).any())
    )


def catalogue_section(quick: bool) -> Part:
    """Both sides over catalogues of three sizes, and the growth drawn."""
    users = READERS // 20 if quick else READERS
    seconds, memory, ratios = {}, {}, {}
    same = alone(same_as_sorted, 32, CATALOGUES[-1]).result
    for items in CATALOGUES:
        mine, other = alone(rank_alone, users, items), alone(bare_alone, users, items)
        seconds[items] = mine.result, other.result
        memory[items], ratios[items] = mine.mib, other.result / mine.result
        print(
            f"catalogue: {users:,} users x {items:,} items: ours {seconds[items][0]:.1f} s, bare "
            f"product and top-{LISTED} {seconds[items][1]:.1f} s, ratio {ratios[items]:.2f}; peak "
            f"{mine.mib:,.0f} MiB, bare {other.mib:,.0f} MiB",
            flush=True,
        )
    for items in CATALOGUES:
        own, bare = seconds[items]
        most = max(max(pair) for pair in seconds.values())
        print(f"{items:>9,} ours {own:7.1f} s {bar(own / most)}")
        print(f"{'':>9} bare {bare:7.1f} s {bar(bare / most)}")
        print(f"{'':>9} peak {memory[items]:6,.0f} MiB {bar(memory[items] / MOST_MIB)} of 6 GB")
    print(f"catalogue: lists and places as sorted, ties included: {'yes' if same else 'NO'}")
    largest = CATALOGUES[-1]
    return Part(
        {"seconds": seconds[largest][0], "mib": memory[largest]},
        {"seconds": seconds[largest][1]},
        ratios[largest],
        same and min(ratios.values()) >= GOALS["catalogue"] and memory[largest] <= MOST_MIB,
    )


SECTIONS: Mapping[str, Callable[[bool], Part]] = {
    "metrics": metrics_section,
    "catalogue": catalogue_section,
}


@torch.no_grad()
def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_ranking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a fifth or a twentieth of the users")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections; default: all"
    )
    parser.add_argument("--threads", type=int, default=1, help="of both sides (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    found = {name: SECTIONS[name](options.quick) for name in dict.fromkeys(options.only)}
    finish_parts("full_ranking", found, GOALS)


if __name__ == "__main__":
    main()
