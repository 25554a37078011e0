"""SASRec, GRU4Rec and BERT4Rec beside RecBole 1.2.1's: seconds of a pass, and how well they rank.

    python -m benchmarks.beside_recbole --data TABLES --python PYTHON [--models SASRec] [--quick]

Tables of Amazon Beauty split leave-last-out, equal widths, layers, heads, dropout, batches and
histories, Adam at 0.001, the softmax over all items, one thread, one seed. After some passes of
both nDCG@10 of all users' valid items among all items must not be lower than RecBole's by more than
two standard errors, and a pass must be as much faster as ``PAIRS`` says. A pass is RecBole's: 514
steps of 256 rows. What differs:

  SASRec           RecBole reads a history for every click, we read a user once for all clicks.
  Transformers     RecBole also drops attention weights.
  GRU4Rec          our GRU has biases; both start from other random weights.
  BERT4Rec         RecBole's rows are the histories of all clicks, so that the newest training click
                   is in none; our rows are blanks in users' whole sequences, 256 a step. RecBole
                   hides the last item alone in half of the batches, we in half of the sequences.
                   RecBole learns a bias an item.

RecBole's passes take minutes; --work keeps those that are done, and the next call continues after
them:

  python -m process.amazon prepared --raw data/raw/amazon-beauty --output data/beauty
  python3.11 -m venv recbole-env
  recbole-env/bin/pip install -r process/recbole/requirements.txt
  python -m benchmarks.beside_recbole --data data/beauty --python recbole-env/bin/python
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.clock import cpu_seconds
from benchmarks.report import Part, finish_parts
from benchmarks.sequential import AT_ONCE, LONGEST, MODEL, WIDTH, settings
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.bricks.system import Bricks, evaluate
from legos.training.trainer import take_step
from legos.training.weights import seed_everything
from legos.workplace.workplace import Workplace
from process.recbole.export import export

_SHARED = {
    "hidden_size": WIDTH,
    "learning_rate": 1e-3,
    "train_batch_size": AT_ONCE,
    "MAX_ITEM_LIST_LENGTH": LONGEST,
}
_TWO_LAYERS = {"n_layers": 2, "n_heads": 2, **_SHARED}


@dataclass(frozen=True)
class Pair:
    """A model as both sides call it.

    Attributes:
        model: our YAML.
        theirs: RecBole's settings.
        passes: after which they are compared.
        sequences: we read a user once for all clicks.
        goal: how many times as fast a pass of ours is to be.
    """

    model: dict[str, Any]
    theirs: dict[str, Any]
    passes: tuple[int, ...]
    sequences: bool
    goal: float


PAIRS = {
    "SASRec": Pair(
        MODEL,
        {**_TWO_LAYERS, "hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5},
        (1, 5, 20),
        sequences=True,
        goal=12.0,
    ),
    "GRU4Rec": Pair(
        {
            **MODEL,
            "name": "gru4rec",
            "item": {**MODEL["item"], "initial_std": 0.0128},  # Glorot's for that many items
            "user": {"name": "gru", "input_dropout": 0.3, "output_projection": True},
        },
        {**_SHARED, "embedding_size": WIDTH, "num_layers": 1, "dropout_prob": 0.3},
        (1, 2, 3),
        sequences=False,
        goal=2.0,
    ),
    "BERT4Rec": Pair(
        {
            **MODEL,
            "name": "bert4rec",
            "user": {
                "name": "bert4rec",
                "num_layers": 2,
                "num_heads": 2,
                "dropout": 0.2,
                "mask_probability": 0.2,
                "last_share": 0.5,
                "max_history": LONGEST,
            },
        },
        {
            **_TWO_LAYERS,
            "inner_size": 4 * WIDTH,
            "hidden_dropout_prob": 0.2,
            "attn_dropout_prob": 0.2,
            "mask_ratio": 0.2,
            "ft_ratio": 0.5,
        },
        (1, 2),
        sequences=False,  # blanks always are
        goal=5.0,
    ),
}


def our_passes(config: RunConfig, passes: int) -> Iterator[dict[str, float]]:
    """A dictionary a pass: CPU seconds, nDCG@10 and its standard error over users."""
    workplace = Workplace.open(config, Accelerator(cpu=True), Tables.load(config.data.folder))
    system, train = Bricks(workplace), config.exp.train
    seed_everything(train.seed)
    rows = workplace.training_rows()
    recipe = BricksRecipe(workplace.accelerator, system.model, workplace.store, rows, train)
    valid, steps = workplace.split("valid"), -(-len(rows) // train.batch_size)
    for number in range(1, passes + 1):
        system.model.train()
        seconds = cpu_seconds(lambda: take_step(recipe), steps) * steps
        result = evaluate(workplace, system.model, valid, thorough=False)
        assert result is not None  # one process
        values = result.groups["nDCG@10"]
        yield {
            "pass": number,
            "seconds": seconds,
            "nDCG@10": float(values.mean()),
            "error": float(values.std() / len(values) ** 0.5),
        }


def their_passes(python: str, tables: Path, work: Path, model: str, passes: int) -> list[Any]:
    """A dictionary a pass of RecBole, from ``recbole_passes.py`` in its environment."""
    work = work.resolve()
    exported, lines = work / "recbole" / "beauty", work / f"{model.lower()}.jsonl"
    if not exported.exists():
        exported.parent.mkdir(parents=True, exist_ok=True)
        export(Tables.load(tables), exported)
    program = Path(__file__).with_name("recbole_passes.py")
    command = [str(Path(python).absolute()), str(program), str(exported), "--model", model]
    command += ["--output", str(lines), "--passes", str(passes)]
    command += ["--settings", json.dumps(PAIRS[model].theirs)]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=work)  # RecBole leaves logs there
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return found[:passes]


def compared(name: str, quick: bool, tables: Path, python: str, work: Path) -> Part:
    """Seconds a pass and nDCG@10 after equal passes."""
    work.mkdir(parents=True, exist_ok=True)
    pair = PAIRS[name]
    passes = pair.passes[:1] if quick else pair.passes
    config = settings(work, tables, model=pair.model, sequences=pair.sequences)
    mine = list(our_passes(config, passes[-1]))
    theirs = their_passes(python, tables, work, name, passes[-1])
    level = True
    for number in passes:
        own, other = mine[number - 1], theirs[number - 1]
        room = 2 * 2**0.5 * own["error"]  # of a difference of two of the same spread
        level &= own["nDCG@10"] >= other["nDCG@10"] - room
        print(
            f"{name}: after {number} passes nDCG@10 ours {own['nDCG@10']:.4f}, RecBole's "
            f"{other['nDCG@10']:.4f} (two standard errors: {room:.4f})",
            flush=True,
        )
    taken, needed = (statistics.median(each["seconds"] for each in side) for side in (mine, theirs))
    ratio = needed / taken
    print(f"{name}: a pass takes {taken:.1f} CPU s, RecBole's {needed:.1f}: {ratio:.1f} times")
    ours, other = (
        {"seconds": median, "nDCG@10": [side[number - 1]["nDCG@10"] for number in passes]}
        for median, side in ((taken, mine), (needed, theirs))
    )
    return Part(ours, other, ratio, level and ratio >= pair.goal)


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside_recbole",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="TABLES")
    parser.add_argument("--python", required=True, help="of RecBole's environment")
    parser.add_argument("--models", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--quick", action="store_true", help="one pass")
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", default=Path("cache/benchmarks/beside_recbole"),
        help="keeps RecBole's passes (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        name: compared(name, options.quick, options.data, options.python, options.work)
        for name in options.models
    }
    finish_parts("beside_recbole", found, {name: PAIRS[name].goal for name in found})


if __name__ == "__main__":
    main()
