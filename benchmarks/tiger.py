"""TIGER: proven lists against all scores; one reading of a sequence against one a next item.

    python -m benchmarks.tiger [--quick]

`lists`: the ten likeliest of 12,101 items (tuples of 256 codes in the shape that texts of Amazon
Beauty give) for readers of five items, by the exact search and by the scores of all items; equal
lists. Weights are random, and the output's table is scaled so that a list of ten has a tenth or
more of all probability; a flatter model is searched longer. `training`: a step over the same next
items of sequences of 8, read once a sequence (`reads: causal`) and once a next item (`both_ways`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.report import Part, finish_parts
from legos.blocks.residual_codes import without_collisions
from legos.data.ragged import Ragged, from_lengths
from legos.evaluation.rank import best_items
from legos.systems.tiger.model import Reading, Tiger
from legos.systems.tiger.quantiser import Quantiser
from legos.systems.tiger.settings import TigerModel
from legos.systems.tiger.writer import Histories, Writer

ITEMS, SIZE, COUNT = 12_101, 256, 10
SHARPER = 2.5  # how much larger the table is that states are multiplied with
LENGTH = 8
TARGETS = {"lists": 5.0, "training": 1.2}


def main() -> None:
    """Print both sides and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer readers and sequences")
    quick = parser.parse_args().quick
    torch.manual_seed(0)
    parts = {"lists": _lists(8 if quick else 64), "training": _training(16 if quick else 128)}
    finish_parts("tiger", parts, TARGETS)


def _codes() -> Tensor:
    """Three codes, the second one of 32 that the first has, and one that tells equal ones apart."""
    first = torch.randint(SIZE, (ITEMS,))
    second = (8 * first + torch.randint(32, (ITEMS,))) % SIZE
    return without_collisions(torch.stack([first, second, torch.randint(SIZE, (ITEMS,))], 1))


def _model(reads: str = "causal") -> Tiger:
    own = TigerModel.model_validate({"name": "tiger", "reads": reads, "dropout": 0.0})
    return Tiger(own, _codes(), [SIZE] * 4, Quantiser([], []))


def _sequences(count: int, length: int) -> Ragged:
    items = torch.randint(ITEMS, (count * length,))
    return from_lengths(items, torch.full((count,), length))


def _seconds(call: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest call."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


def _lists(readers: int) -> Part:
    model = _model().eval()
    with torch.no_grad():
        model.table.mul_(SHARPER)
    writer = Writer(model, torch.arange(ITEMS))
    histories = Histories(_sequences(readers, 5), torch.arange(readers))
    every = torch.arange(ITEMS).expand(readers, -1)
    best = writer.lists(histories, histories.items, COUNT)
    scores = writer.scores(histories, every)
    scores[histories.items.rows, histories.items.values] = -torch.inf
    same = torch.equal(best_items(scores, COUNT).items, best.items)
    mass = best.scores.exp().sum(1).mean()
    ours = _seconds(lambda: writer.lists(histories, histories.items, COUNT))
    other = _seconds(lambda: writer.scores(histories, every), times=1)
    print(
        f"lists of {COUNT} for {readers} readers: search {ours:.2f} s, all items {other:.2f} s "
        f"({other / ours:.1f} times), same lists: {same}, their probability {mass:.2f}"
    )
    return Part(ours, other, other / ours, same and other / ours >= TARGETS["lists"])


def _training(sequences: int) -> Part:
    read, users = _sequences(sequences, LENGTH), torch.arange(sequences)
    rows = torch.arange(sequences).repeat_interleave(LENGTH)
    lengths = torch.arange(LENGTH).repeat(sequences)
    targets = torch.randint(ITEMS, (sequences * LENGTH,))
    alone = read.select(rows).head(lengths)
    readings = {
        "causal": Reading(read, users, rows, lengths),
        "both_ways": Reading(alone, users[rows], torch.arange(len(rows)), lengths),
    }
    seconds = {}
    for reads, reading in readings.items():
        model = _model(reads)

        def step(model: Tiger = model, reading: Reading = reading) -> None:
            model.zero_grad()
            model(reading, targets).mean().backward()

        step()
        seconds[reads] = _seconds(step)
    ours, other = seconds["causal"], seconds["both_ways"]
    print(
        f"a step over {len(rows):,} next items: a reading a sequence {ours:.3f} s, a reading a "
        f"next item {other:.3f} s ({other / ours:.1f} times)"
    )
    return Part(ours, other, other / ours, other / ours >= TARGETS["training"])


if __name__ == "__main__":
    main()
