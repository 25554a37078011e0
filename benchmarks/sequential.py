"""SASRec with sequences read once: against a row a click, the softmax's products, and RecBole.

    python -m benchmarks.sequential [--quick] [--data TABLES] [--recbole PYTHON] [--work FOLDER]

Two layers, two heads, width 64, histories of 50, dropout 0.5, Adam, the softmax over all items, one
thread.

  rows     Rows a CPU second with ``exp.train.sequences`` against the same model with a row a click,
           which reads a history for each, at 256 rows a step on average and at 2,048, RecBole's
           default. The floor is the three matrix products of the softmax over all items, forward
           and backward, and nothing else, in pages of 256 rows: whole, 2,048 rows leave the cache
           and take twice as long. Data have the numbers of Amazon Beauty: 22,363 users, 12,101
           items, 131,413 rows; with --data they are the real ones. Goals: twice the rows of a row a
           click; a step of 2,048 rows at most twice the floor.
  recbole  A pass over --data, tables of Amazon Beauty split leave-last-out, against RecBole 1.2.1's
           SASRec of the same sizes in its own environment, 256 rows a step, and nDCG@10 of all
           users' valid items among all items after 1, 5 and 20 passes of both. Goal: 12 times as
           fast, and never lower by more than two standard errors. RecBole's passes take minutes;
           --work keeps those that are done, and the next call continues after them:

             python -m process.amazon prepared --raw data/raw/amazon-beauty --output data/beauty
             python3.11 -m venv recbole-env
             recbole-env/bin/pip install -r process/recbole/requirements.txt
             python -m benchmarks.sequential --data data/beauty --recbole recbole-env/bin/python

The sides of ``rows`` take turns and the fastest turn of each counts; a pass is the median of all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
from legos.data.items import Interactions, ItemStore
from legos.data.tables import Tables
from legos.recommender import build_recommender
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.bricks.system import Bricks, evaluate
from legos.training.trainer import take_step
from legos.training.weights import seed_everything
from legos.workplace.workplace import Workplace, seen_in_training
from process.recbole.export import export

ITEMS, USERS, ROWS, WIDTH, LONGEST, AT_ONCE = 12_101, 22_363, 131_413, 64, 50, 256
LARGE = 2_048
ROWS_GOALS: dict[str, float] = {"a row a click": 2.0, f"floor of {LARGE} rows": 0.5}
RECBOLE_GOAL = 12.0
PASSES = (1, 5, 20)
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
RECBOLE = {
    "hidden_size": WIDTH,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "learning_rate": 1e-3,
    "train_batch_size": AT_ONCE,
    "MAX_ITEM_LIST_LENGTH": LONGEST,
}


def like_beauty(seed: int = 0) -> Interactions:
    """Clicks of as many users on as many items, each with what the user clicked before.

    Lengths are geometric above two, popularity is a mild power law.
    """
    rng = np.random.default_rng(seed)
    lengths = np.minimum(2 + rng.geometric(USERS / (ROWS - USERS), USERS), 200)
    clicks = (ITEMS * rng.random(lengths.sum()) ** 1.7).astype(np.int64)
    return growing(ragged(clicks, lengths), LONGEST)


def settings(folder: Path, tables: Path, *, sequences: bool, rows: int = AT_ONCE) -> RunConfig:
    """The configuration of a run on tables, from YAMLs that are written into a folder."""
    data = {
        "name": "beauty",
        "folder": str(tables.resolve()),
        "fields": [],
        "history_length": LONGEST,
        "splits": {"train": "train", "valid": "valid", "test": ["test"]},
    }
    for name, content in (("data", data), ("model", MODEL)):
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


def our_passes(config: RunConfig, passes: int) -> Iterator[dict[str, float]]:
    """A dictionary a pass: CPU seconds, nDCG@10 and its standard error over users."""
    workplace = Workplace.open(config, Accelerator(cpu=True), Tables.load(config.data.folder))
    system, train = Bricks(workplace), config.exp.train
    seed_everything(train.seed)
    rows = workplace.training_rows()
    recipe = BricksRecipe(workplace.accelerator, system.model, workplace.store, rows, train)
    valid = workplace.split("valid")
    for number in range(1, passes + 1):
        system.model.train()
        seconds = cpu_seconds(lambda: take_step(recipe), recipe.stream.steps_per_epoch)
        seconds *= recipe.stream.steps_per_epoch
        result = evaluate(workplace, system.model, valid, thorough=False)
        assert result is not None  # one process
        values = result.groups["nDCG@10"]
        yield {
            "pass": number,
            "seconds": seconds,
            "nDCG@10": float(values.mean()),
            "error": float(values.std() / len(values) ** 0.5),
        }


def their_passes(python: str, tables: Path, work: Path, passes: int) -> list[dict[str, float]]:
    """A dictionary a pass of RecBole, from ``sequential_recbole.py`` in its environment."""
    work = work.resolve()
    exported, lines = work / "recbole" / "beauty", work / "recbole.jsonl"
    if not exported.exists():
        exported.parent.mkdir(parents=True, exist_ok=True)
        export(Tables.load(tables), exported)
    command = [
        str(Path(python).absolute()),
        str(Path(__file__).with_name("sequential_recbole.py")),
        str(exported),
        *("--model", "SASRec"),
    ]
    command += ["--output", str(lines), "--passes", str(passes), "--settings", json.dumps(RECBOLE)]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=work)  # RecBole leaves logs there
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return found[:passes]


def recbole_section(quick: bool, tables: Path, python: str, work: Path) -> Part:
    """Seconds a pass and nDCG@10 after equal passes."""
    work.mkdir(parents=True, exist_ok=True)
    passes = PASSES[:1] if quick else PASSES
    mine = list(our_passes(settings(work, tables, sequences=True), passes[-1]))
    theirs = their_passes(python, tables, work, passes[-1])
    equal = True
    for number in passes:
        own, other = mine[number - 1], theirs[number - 1]
        room = 2 * 2**0.5 * own["error"]  # of a difference of two of the same spread
        equal &= own["nDCG@10"] >= other["nDCG@10"] - room
        print(
            f"recbole: after {number} passes nDCG@10 ours {own['nDCG@10']:.4f}, RecBole's "
            f"{other['nDCG@10']:.4f} (two standard errors: {room:.4f})",
            flush=True,
        )
    taken, needed = (statistics.median(each["seconds"] for each in side) for side in (mine, theirs))
    ratio = needed / taken
    print(f"recbole: a pass takes {taken:.1f} CPU s, RecBole's {needed:.1f}: {ratio:.1f} times")
    return Part(
        {"seconds": taken, "nDCG@10": [mine[number - 1]["nDCG@10"] for number in passes]},
        {"seconds": needed, "nDCG@10": [theirs[number - 1]["nDCG@10"] for number in passes]},
        ratio,
        equal and ratio >= RECBOLE_GOAL,
    )


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sequential",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns, one pass")
    parser.add_argument("--data", type=Path, metavar="TABLES", help="leave-last-out tables")
    parser.add_argument("--recbole", metavar="PYTHON", help="of RecBole's environment")
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", default=Path("cache/benchmarks/sequential"),
        help="keeps RecBole's passes (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    if options.recbole and not options.data:
        parser.error("--recbole needs --data: RecBole trains on real tables")
    torch.set_num_threads(1)
    found = {"rows": rows_section(options.quick, options.data)}
    if options.recbole:
        found["recbole"] = recbole_section(
            options.quick, options.data, options.recbole, options.work
        )
    else:
        print("recbole: left out, since --recbole names no environment")
    finish_parts("sequential", found, {"rows": ROWS_GOALS, "recbole": RECBOLE_GOAL})


if __name__ == "__main__":
    main()
