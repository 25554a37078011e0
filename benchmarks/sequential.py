"""SASRec with sequences read once, against a row a click and the softmax's products alone.

    python -m benchmarks.sequential [--quick] [--data TABLES]

Rows a CPU second with ``exp.train.sequences`` against the same model with a row a click, which
reads a history for each, at 256 rows a step on average and at 2,048, RecBole's default: two layers,
two heads, width 64, histories of 50, dropout 0.5, Adam, the softmax over all items, one thread. The
floor is the three matrix products of the softmax over all items, forward and backward, and nothing
else, in pages of 256 rows: whole, 2,048 rows leave the cache and take twice as long. Data have the
numbers of Amazon Beauty: 22,363 users, 12,101 items, 131,413 rows; with --data they are the real
ones. Goals: twice the rows of a row a click; a step of 2,048 rows at most twice the floor.

The sides take turns and the fastest turn of each counts. ``benchmarks.beside_recbole`` compares
with RecBole.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator

from benchmarks.clock import cpu_seconds
from benchmarks.report import Part, finish_parts
from benchmarks.shapes import growing, ragged
from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.data.batch import Rows, SequenceRows
from legos.data.catalogue_rows import CatalogueRows
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.recommender import build_recommender
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.trainer import take_step
from legos.workplace.known import seen_in_training

ITEMS, USERS, ROWS, WIDTH, LONGEST, AT_ONCE = 12_101, 22_363, 131_413, 64, 50, 256
LARGE = 2_048
ROWS_GOALS: dict[str, float] = {"a row a click": 2.0, f"floor of {LARGE} rows": 0.5}
MODEL: dict[str, Any] = {
    "name": "sasrec",
    "hidden_size": WIDTH,
    "item": {"name": "id", "id_dropout": 0.0, "initial_std": 0.02},
    "user": {
        "name": "sasrec",
        "variant": "released",
        "positions": "oldest",
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.5,
        "max_history": LONGEST,
    },
    "predictor": {"name": "dot"},
}


def like_beauty(seed: int = 0) -> Interactions:
    """Clicks of as many users on as many items, each with what the user clicked before.

    Lengths are geometric above two, popularity is a mild power law.
    """
    rng = np.random.default_rng(seed)
    lengths = np.minimum(2 + rng.geometric(USERS / (ROWS - USERS), USERS), 200)
    clicks = (ITEMS * rng.random(lengths.sum()) ** 1.7).astype(np.int64)
    return growing(ragged(clicks, lengths), LONGEST)


def settings(
    folder: Path,
    tables: Path,
    *,
    model: dict[str, Any] = MODEL,
    sequences: bool,
    rows: int = AT_ONCE,
) -> RunConfig:
    """The configuration of a run on tables, from YAMLs that are written into a folder."""
    data = {
        "name": "beauty",
        "folder": str(tables.resolve()),
        "fields": [],
        "history_length": LONGEST,
        "splits": {"train": "train", "valid": "valid", "test": ["test"]},
    }
    for name, content in (("data", data), ("model", model)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_run_config(
        [
            *("--data", str(folder / "data.yaml"), "--model", str(folder / "model.yaml")),
            *("--exp", "sequential", "--exp.evaluate.exclude", "nothing", "--device", "cpu"),
            *("--exp.train.sequences", str(sequences).lower()),
            *("--exp.train.batch_size", str(rows)),
        ]
    )


class Side:
    """One way to read the training rows.

    Args:
        train: clicks with what came before.
        items: how many there are.
        sequences: whether a user's clicks are read once for all rows in them.
        at_once: rows a step, on average.
    """

    def __init__(
        self, train: Interactions, items: int, *, sequences: bool, at_once: int = AT_ONCE
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            config = settings(where, where, sequences=sequences, rows=at_once)
        store = ItemStore(fields={}, texts={}, categories={}, num_items=items)
        known = seen_in_training(train, num_items=items, num_users=int(train.users.max()) + 1)
        rows: Rows = CatalogueRows(
            train, offered=torch.ones(items, dtype=torch.bool), row="click", history="given"
        )
        if sequences:
            rows = SequenceRows(rows, train)
        model = build_recommender(config.model, store, known=known, seed=1)
        self.recipe = BricksRecipe(Accelerator(cpu=True), model, store, rows, config.exp.train)

    def rows_a_second(self, steps: int) -> float:
        """Rows a CPU second over some steps."""
        progress = self.recipe.progress
        before = progress.loss_rows
        seconds = cpu_seconds(lambda: take_step(self.recipe), steps) * steps
        return (progress.loss_rows - before) / seconds


def floor_rows_a_second(items: int, rows: int, steps: int) -> float:
    """Rows a CPU second of the bare products: scores, and both gradients from as many errors."""
    users, table = torch.randn(rows, WIDTH), torch.randn(items, WIDTH)
    gradient = torch.empty_like(table)

    def step() -> None:
        for begin in range(0, rows, AT_ONCE):
            page = users[begin : begin + AT_ONCE]
            scores = page @ table.T
            scores @ table
            if begin == 0:
                torch.mm(scores.T, page, out=gradient)
            else:
                gradient.addmm_(scores.T, page)

    return rows / cpu_seconds(step, steps)


def rows_section(quick: bool, tables: Path | None) -> Part:
    """Rows a CPU second of both ways and of the floor."""
    train, items = like_beauty(), ITEMS
    if tables is not None:
        read = Tables.load(tables)
        train = Interactions.from_tables(read, "train", history_length=LONGEST)
        items = read.num_items
    each = Side(train, items, sequences=False)
    sizes = {rows: Side(train, items, sequences=True, at_once=rows) for rows in (AT_ONCE, LARGE)}
    ours, floor, click = dict.fromkeys(sizes, 0.0), dict.fromkeys(sizes, 0.0), 0.0
    for _ in range(3 if quick else 8):
        for rows, once in sizes.items():
            steps = max(2, 8 * AT_ONCE // rows)
            ours[rows] = max(ours[rows], once.rows_a_second(steps))
            floor[rows] = max(floor[rows], floor_rows_a_second(items, rows, steps))
        click = max(click, each.rows_a_second(2))
    print(
        f"rows: {len(each.recipe.rows):,} rows, {items:,} items: sequences {ours[AT_ONCE]:,.0f} "
        f"rows a CPU second, a row a click {click:,.0f} (ratio {ours[AT_ONCE] / click:.2f})"
    )
    for rows in sizes:
        print(
            f"rows: {rows:,} a step: sequences {ours[rows]:,.0f} rows a CPU second, the bare "
            f"products {floor[rows]:,.0f} (a step takes {floor[rows] / ours[rows]:.2f} times as "
            "long)",
            flush=True,
        )
    ratios = {"a row a click": ours[AT_ONCE] / click}
    ratios |= {f"floor of {rows} rows": ours[rows] / floor[rows] for rows in sizes}
    reached = [ratios[name] >= goal for name, goal in ROWS_GOALS.items()]
    other = {"a row a click": click, "floor": {str(rows): floor[rows] for rows in sizes}}
    return Part({str(rows): ours[rows] for rows in sizes}, other, ratios, all(reached))


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sequential",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--data", type=Path, metavar="TABLES", help="leave-last-out tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"rows": rows_section(options.quick, options.data)}
    finish_parts("sequential", found, {"rows": ROWS_GOALS})


if __name__ == "__main__":
    main()
