"""Steps made ahead in a background thread, against steps made when they are due.

    python -m benchmarks.ahead [--quick]

A few steps of each system by the trainer's own ``take_step``, from the same place of the same
training in every turn. One thread computes and one makes examples, so that two free cores are
needed; times are therefore those of the clock, the sides take turns, and the fastest turn of each
counts. That both sides read the same is a test (``tests/training/test_prepared.py``).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator

from benchmarks import cllm4rec, train
from benchmarks.recsysllm_data import FULL, QUICK, Setting
from benchmarks.report import Part, finish_parts
from benchmarks.shapes import GOODREADS
from legos.config.train_schema import TrainConfig
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.stages import TASKS
from legos.systems.recsysllm.recipe import InfillRecipe, TrainingStream
from legos.training.recipe import Recipe, Segment
from legos.training.trainer import prepared, take_step

NO_SLOWER = 0.95


def bricks(quick: bool, folder: Path) -> Recipe:
    """NAML on the shape of Goodreads."""
    return train.Sides("NAML", GOODREADS).training


def of_texts(quick: bool, folder: Path) -> Recipe:
    """The warm-up of CLLM4Rec over reviews."""
    shape = (128, 2) if quick else (384, 6)
    sides = cllm4rec.Sides(cllm4rec.language_model(*shape), 400 if quick else 2000, folder)
    settings = TrainConfig.model_validate({**Cllm4RecModel.training, "metric": "nDCG@10"})
    rows = dict.fromkeys(TASKS, sides.source)  # warm-up reads texts alone
    return Cllm4RecRecipe(Accelerator(cpu=True), sides.model, rows, settings)


def of_prompts(quick: bool, folder: Path) -> Recipe:
    """RecSysLLM with LoRA as in the paper."""
    setting = Setting(QUICK if quick else FULL, None)
    backbone = setting.backbone("paper")
    stream = TrainingStream(setting.world, backbone.special, setting.train)
    return InfillRecipe(Accelerator(cpu=True), backbone, stream, setting.settings, setting.train)


SYSTEMS: Mapping[str, Callable[[bool, Path], Recipe]] = {
    "bricks": bricks, "cllm4rec": of_texts, "recsysllm": of_prompts,
}  # fmt: skip


def measure(recipe: Recipe, steps: int, rounds: int) -> Part:
    """Seconds a step of both sides."""
    start = recipe.progress
    best = [float("inf"), float("inf")]
    recipe.replicas.module.train()
    for side in [0, 1] * (rounds + 1):  # the first turns warm up
        recipe.progress = deepcopy(start)
        segment = cast(Segment, recipe.segment())._replace(steps=steps)
        begin = time.perf_counter()
        with closing(prepared(recipe, segment)) as ahead:
            for _ in range(steps):
                take_step(recipe, (), None if side else ahead)
        best[side] = min(best[side], (time.perf_counter() - begin) / steps)
    return Part(best[0], best[1], best[1] / best[0], best[1] / best[0] >= NO_SLOWER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, few steps")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in SYSTEMS.items():
            steps = {"bricks": 40}.get(name, 4) * (1 if quick else 3)
            part = found[name] = measure(make(quick, Path(folder)), steps, 2 if quick else 5)
            print(
                f"{name:9s} a step made ahead {1e3 * part.ours:7.1f} ms, when it is due "
                f"{1e3 * part.other:7.1f} ms: {part.ratio:.2f} times as fast",
                flush=True,
            )
    finish_parts("ahead", found, dict.fromkeys(SYSTEMS, NO_SLOWER))


if __name__ == "__main__":
    main()
