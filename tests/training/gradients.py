"""Gradients and losses of the first steps of CLLM4Rec and RecSysLLM, by one process or two.

``python -m tests.training.gradients ROOT`` writes those of every variant, as one of the processes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.systems.recsysllm.recipe import InfillRecipe
from legos.systems.recsysllm.stream import TrainingStream
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.training.recipe import Recipe
from legos.training.trainer import take_step
from legos.workplace.device import joined_processes, make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.cllm4rec.world import world_config, world_language_model
from tests.systems.recsysllm.system import system_config

CLLM4REC: dict[str, dict[str, Any]] = {
    "paper": {"mutual": {"prior": 0.5}},
    "public_code": {"preset": "public_code"},
    "mean_unique": {"mutual": {"reduction": "mean_unique"}, "backbone": {"train": "lora"}},
}
RECSYSLLM: dict[str, dict[str, Any]] = {
    "tokens": {"batch_tokens": 150},
    "examples": {"reduction": "examples"},
    "one": {"batch_size": 1},  # nothing is left for the second process
}


def configs(root: Path) -> dict[str, RunConfig]:
    """By name the variants; a step has an odd number of rows, in micro-batches of 3."""
    found = {}
    shape = world_language_model(root / "llama", attention_dropout=0.0)
    train = {"batch_size": 3, "stages": {"pretraining_epochs": 1, "finetuning_epochs": 1}}
    for name, more in CLLM4REC.items():
        model = {"model": shape, "train": train, **more}
        found[name] = world_config(root, model=model, train={"acc_batch": 3})
    for name, training in RECSYSLLM.items():
        own: dict[str, Any] = {
            "backbone": {"lora_dropout": 0.0},
            "train": {"epochs": 1, **training},
        }
        found[name] = system_config(root / "reviewed", root / "recsysllm", model=own)
    return found


def recipe_of(config: RunConfig, accelerator: Accelerator) -> Recipe:
    """The training of a configuration, about to begin."""
    place = Workplace.open(config, accelerator, Tables.load(config.data.folder))
    train = config.exp.train
    if config.model.system == "cllm4rec":
        cllm4rec = Cllm4RecSystem(place)
        rows = cllm4rec.task_rows(lambda text: None)
        return Cllm4RecRecipe(accelerator, cllm4rec.model, rows, train)
    system = RecsysllmSystem(place)
    stream = TrainingStream(system.world, system.backbone.special, train)
    return InfillRecipe(accelerator, system.backbone, stream, system.settings, train)


def gradients(recipe: Recipe) -> dict[str, Tensor]:
    """Of two steps of every segment the gradients, by segment, step and parameter.

    Weights stay as they are, or differences of rounding would grow with every step.
    """
    found: dict[str, Tensor] = {}
    while (segment := recipe.segment()) is not None:
        recipe.replicas.module.train()
        for number in range(min(2, segment.steps)):

            def keep(name: str, place: str = f"{segment.title} {number}") -> None:
                for key, parameter in recipe.replicas.trained.named_parameters():
                    if parameter.grad is not None:
                        found[f"{place} {key}"] = parameter.grad.clone()
                        parameter.grad = None

            recipe.replicas.step = keep  # type: ignore[method-assign]
            log, _ = take_step(recipe)
            for key in ("loss", "likelihood", "regularisation"):
                if key in log:
                    found[f"{segment.title} {number} {key}"] = Tensor([log[key]])
        if not segment.steps and segment.measure != "no":
            break
        recipe.after(segment, math.nan)
    return found


def main() -> None:
    root = Path(sys.argv[1])
    accelerator = make_accelerator(device="auto", precision="fp32", deterministic=True)
    with joined_processes(accelerator):
        for name, config in configs(root).items():
            found = gradients(recipe_of(config, accelerator))
            save_file(found, root / f"{name}-{accelerator.process_index}.safetensors")


if __name__ == "__main__":
    main()
