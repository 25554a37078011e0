"""Training speed: our loop against a padded loop and against a bare hand-written one.

    python -m benchmarks.train [--quick] [--models [NAME ...]]

One thread, dropout off, frozen 768-wide token vectors projected to D = 64, batch 64, K = 4.
The padded loop encodes every occurrence of every item, padded to 30 tokens; the bare loop uses the
same tricks as ours and nothing else. All three start from the same weights and see the same
impressions; that their losses agree is checked before anything is timed. Times are CPU seconds,
the sides take turns, and the fastest turn of each counts.

``--models`` measures every shipped model (or those named) instead: our loop against a plain one
over the same bricks, see ``benchmarks/models.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from benchmarks.bare import BareLoop
from benchmarks.clock import BATCH, LR, cpu_seconds
from benchmarks.models import compare_models
from benchmarks.padded import PaddedLoop
from benchmarks.report import finish
from benchmarks.shapes import GOODREADS, MIND, VOCABULARY, Shape, make_interactions, make_items
from legos.config.train_schema import NegativesConfig, TrainConfig
from legos.data.batch import TrainingRows
from legos.data.sampling import NegativeSampler
from legos.recommender import TokenTable, build_recommender
from legos.registry import item_encoders, predictors, user_encoders
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.trainer import take_step

MODELS = {
    "NAML": ({"name": "cnn", "dropout": 0}, {"name": "additive_attention"}),
    "NRMS": ({"name": "attention", "dropout": 0}, {"name": "self_attention", "dropout": 0}),
}
TARGETS = {"NAML": 7.0, "NRMS": 5.0}
BARE_TARGET = 0.85


class Sides:
    """The three loops of one model on one shape; each step trains on the next 64 impressions."""

    def __init__(self, model: str, shape: Shape) -> None:
        store, data = make_items(shape), make_interactions(shape)
        item, user = MODELS[model]
        choice = SimpleNamespace(
            hidden_size=64,
            item=item_encoders.validate(item),
            user=user_encoders.validate(user),
            predictor=predictors.validate({"name": "dot"}),
        )
        vectors = torch.randn(VOCABULARY, 768, generator=torch.Generator().manual_seed(0)) * 0.05
        recommender = build_recommender(
            choice,
            store,
            known=SimpleNamespace(
                items=torch.ones(len(store), dtype=torch.bool),
                users=torch.ones(1, dtype=torch.bool),
            ),
            seed=1,
            tables={"bert": TokenTable(vectors, frozen=True, fingerprint="benchmark")},
        )
        config = TrainConfig(
            loss="softmax",
            negatives=NegativesConfig(strategy="impression", count=shape.negatives),
            optimizer="adam",
            lr=LR,
            weight_decay=0.0,
            warmup=0.0,
            schedule="constant",
            clip=None,
            batch_size=BATCH,
            metric="GAUC",
        )
        sampler = NegativeSampler(
            data, num_items=len(store), strategy="impression", count=shape.negatives, seed=1
        )
        self.padded = PaddedLoop(recommender, store)
        self.bare = BareLoop(recommender, store, data, LR)
        rows = TrainingRows(data, sampler)
        self.training = BricksRecipe(Accelerator(cpu=True), recommender, store, rows, config)
        self.optimizer = torch.optim.Adam(
            [p for p in self.padded.parameters() if p.requires_grad], LR
        )
        self.data = data
        self.bare_steps = self.padded_steps = 0

    def ours_step(self) -> float:
        """One step of the loop that ``worker.py`` runs."""
        return take_step(self.training, [False, False])[0]["loss"]

    def padded_step(self) -> float:
        """One step of the padded loop, on the same impressions as our step of that number."""
        rows = self.training.stream.rows(self.padded_steps).micro_batches[0]
        self.padded_steps += 1
        data = self.data
        history, mask = data.histories.padded_tail(rows, data.history_length)
        width = data.history_length - history.shape[1]
        history, mask = F.pad(history, (0, width)), F.pad(mask, (0, width))
        candidates = data.candidates.values.view(len(data), -1)[rows]
        scores = self.padded(history, mask, candidates)
        loss = F.cross_entropy(scores, torch.zeros(len(rows), dtype=torch.int64))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def bare_step(self) -> float:
        """One step of the bare loop, on the same impressions as our step of that number."""
        rows = self.training.stream.rows(self.bare_steps).micro_batches[0]
        self.bare_steps += 1
        return float(self.bare.step(rows))


def measure(model: str, shape: Shape, *, rounds: int, padded_steps: int) -> dict[str, float]:
    """Impressions a CPU second of the three sides and their largest relative difference in loss."""
    sides = Sides(model, shape)
    ours = [sides.ours_step() for _ in range(5)]
    difference = max(
        abs(a - b) / abs(a)
        for step in (sides.padded_step, sides.bare_step)
        for a, b in zip(ours, [step() for _ in range(5)], strict=True)
    )
    best = {"ours": float("inf"), "padded": float("inf"), "bare": float("inf")}
    for _ in range(rounds):
        best["ours"] = min(best["ours"], cpu_seconds(sides.ours_step, 20))
        best["bare"] = min(best["bare"], cpu_seconds(sides.bare_step, 20))
        best["padded"] = min(best["padded"], cpu_seconds(sides.padded_step, padded_steps))
    speed = {side: BATCH / seconds for side, seconds in best.items()}
    return {**speed, "difference": difference}


def peak_memory(model: str, shape: str, side: str) -> float:
    """Peak resident MB of a process that only runs one side."""
    command = [sys.executable, "-m", "benchmarks.train", "--alone", model, shape, side]
    with tempfile.TemporaryFile("w+") as output:
        subprocess.run(command, check=True, stdout=output, cwd=Path(__file__).parent.parent)
        output.seek(0)
        return float(output.read().strip().splitlines()[-1])


def run_alone(model: str, shape: str, side: str) -> None:
    """Take a few steps of one side and print this process's peak resident MB."""
    sides = Sides(model, {"goodreads": GOODREADS, "mind": MIND}[shape])
    step = {"ours": sides.ours_step, "padded": sides.padded_step}[side]
    for _ in range(3):
        step()
    print(peak_resident_mb())


def peak_resident_mb() -> float:
    """Peak of this process since it started; ``getrusage`` would count its parent's, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--alone", nargs=3, metavar=("MODEL", "SHAPE", "SIDE"))
    parser.add_argument("--models", nargs="*", metavar="NAME", help="every shipped model, or these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.models is not None:
        compare_models(options.models, quick=options.quick)
        return
    if options.alone:
        run_alone(*options.alone)
        return
    rounds, padded_steps = (2, 2) if options.quick else (6, 5)
    results: dict[str, dict[str, float]] = {}
    print("shape      model  ours imp/s  padded  ratio   bare  ratio  loss difference")
    for name, shape in (("goodreads", GOODREADS), ("mind", MIND)):
        for model in MODELS:
            if name == "mind" and options.quick:
                continue
            found = measure(model, shape, rounds=rounds, padded_steps=padded_steps)
            results[f"{name} {model}"] = found
            print(
                f"{name:10s} {model}  {found['ours']:10.0f}  {found['padded']:6.0f}  "
                f"{found['ours'] / found['padded']:5.2f}  {found['bare']:5.0f}  "
                f"{found['ours'] / found['bare']:5.2f}  {found['difference']:.1e}",
                flush=True,
            )
    if not options.quick:
        for name in ("goodreads", "mind"):
            for model in MODELS:
                ours, padded = (peak_memory(model, name, side) for side in ("ours", "padded"))
                print(
                    f"{name:10s} {model}  peak memory: ours {ours:.0f} MB, padded {padded:.0f} MB"
                )
    ratios = {
        model: results[f"goodreads {model}"]["ours"] / results[f"goodreads {model}"]["padded"]
        for model in MODELS
    }
    bare = {
        model: results[f"goodreads {model}"]["ours"] / results[f"goodreads {model}"]["bare"]
        for model in MODELS
    }
    # Adam blows up rounding where a gradient is zero in theory; longer histories show it sooner
    same = all(results[f"goodreads {model}"]["difference"] < 1e-5 for model in MODELS)
    holds = same and all(
        ratios[model] >= TARGETS[model] and bare[model] >= BARE_TARGET for model in MODELS
    )
    finish(
        name="train",
        ours={model: results[f"goodreads {model}"]["ours"] for model in MODELS},
        other={model: results[f"goodreads {model}"]["padded"] for model in MODELS},
        ratio={"padded": ratios, "bare": bare},
        target={"padded": TARGETS, "bare": BARE_TARGET},
        holds=holds,
    )


if __name__ == "__main__":
    main()
