"""Gradients, losses and norms of the first steps of the systems, by one process or two.

``python -m tests.training.gradients ROOT`` writes those of every variant, as one of the processes.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.bricks.system import Bricks
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.systems.recsysllm.recipe import InfillRecipe, TrainingStream
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.systems.tiger.system import TigerSystem
from legos.training.recipe import Recipe
from legos.training.trainer import take_step
from legos.training.weights import whole
from legos.workplace.device import joined_processes, make_accelerator
from legos.workplace.workplace import Workplace
from tests.modes.tiny_config import GLORY, MANNER, tiny_config
from tests.systems.cllm4rec.world import world_config, world_language_model
from tests.systems.recsysllm.glm_folders import glm_folder
from tests.systems.recsysllm.system import system_config
from tests.training.systems import lora_config

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

TIED = {
    "model_type": "gpt2", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
PAIR = {
    "model_type": "t5", "d_kv": 8, "num_decoder_layers": 2, "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "feed_forward_proj": "gated-gelu",  # rounding may carry a ReLU over its kink
}  # fmt: skip
FSDP: dict[str, dict[str, Any]] = {
    "fsdp tied": {
        **CLLM4REC["paper"],
        "backbone": {"train": "full", "gradient_checkpointing": True},
        "shape": TIED,
    },
    "fsdp pair": {"preset": "public_code", "backbone": {"train": "full"}, "shape": PAIR},
    "fsdp tokens": {
        "train": {**RECSYSLLM["tokens"], "clip": 0.01},
        "backbone": {"quantised": "int8", "gradient_checkpointing": True},
    },
    "fsdp one": {"train": RECSYSLLM["one"]},
    "fsdp glm": {"backbone": {"kind": "glm", "layers": None, "gradient_checkpointing": True}},
    "fsdp bricks": {},
}
"""What the model YAML says, where processes share layers out."""


SASREC = {"name": "sasrec", "positions": "oldest"}


def configs(root: Path) -> dict[str, RunConfig]:
    """By name the variants; a step has an odd number of rows, in micro-batches of 3."""
    found = {name: cllm4rec_steps(root, more) for name, more in CLLM4REC.items()}
    found |= {name: recsysllm_steps(root, {"train": more}) for name, more in RECSYSLLM.items()}
    found["sequences"] = sequence_steps(root)
    found |= {f"tiger, {reads}": tiger_steps(root, reads) for reads in ("causal", "both_ways")}
    negatives = {"strategy": "popularity", "shared": True, "count": 7}
    found["sampled"] = sequence_steps(root, loss="sampled_softmax", negatives=negatives)
    found["cloze"] = sequence_steps(root, {"name": "bert4rec"}, loss="full_softmax")
    found |= {"manner": news_steps(root, MANNER), "glory": news_steps(root, GLORY)}
    for name, more in FSDP.items():
        if name == "fsdp bricks":
            config = lora_config(root / "clicked", root, dropout=0.0)
        else:
            tasks = "train" in more or name == "fsdp glm"
            config = (recsysllm_steps if tasks else cllm4rec_steps)(root, more)
        exp = config.exp.model_copy(update={"distributed": "fsdp"})
        found[name] = config.model_copy(update={"exp": exp})
    return found


def news_steps(root: Path, model: dict[str, Any]) -> RunConfig:
    """Rows that processes share out; draws by label and the graph are the same in all of them."""
    encoder = {"name": "cnn", "attention_size": 8, "dropout": 0.0}
    model = {**model, "item": {**model["item"], "encoder": encoder}}
    if model["name"] == "glory":
        model["user"] = {**model["user"], "dropout": 0.0}
    train = {"epochs": 1, "batch_size": 3, "acc_batch": 3}
    return tiny_config(root / "clicked", root / "runs", model=model, train=train)


def sequence_steps(root: Path, user: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    """Rows in units of a user's sequence, which processes share out."""
    model = {
        "name": "sasrec",
        "hidden_size": 8,
        "item": {"name": "id", "id_dropout": 0.0},
        "user": {**(user or SASREC), "dropout": 0.0, "num_layers": 1},
    }
    train = {"epochs": 1, "batch_size": 4, "sequences": True, **more}
    return tiny_config(
        root / "clicked", root / "runs", model={**model, "predictor": {"name": "dot"}}, train=train
    )


def cllm4rec_steps(
    root: Path, more: dict[str, Any], *, batch_size: int = 3, acc_batch: int = 3
) -> RunConfig:
    """A step of nine rows, in micro-batches of three."""
    rest = {key: value for key, value in more.items() if key != "shape"}
    shape = {"attention_dropout": 0.0, **more.get("shape", {})}
    model = world_language_model(_own(root) / "llama", **shape)
    stages = {"pretraining_epochs": 1, "finetuning_epochs": 1}
    train = {"batch_size": batch_size, "stages": stages}
    return world_config(
        root, model={"model": model, "train": train, **rest}, train={"acc_batch": acc_batch}
    )


def recsysllm_steps(root: Path, more: dict[str, Any], *, acc_batch: int = 1) -> RunConfig:
    """A step of six examples."""
    train = {"epochs": 1, **more.get("train", {})}
    backbone = {"lora_dropout": 0.0, **more.get("backbone", {})}
    own: dict[str, Any] = {"backbone": backbone, "train": train}
    if backbone.get("kind") == "glm":
        source = glm_folder(_own(root) / "glm", "chatglm")[0]
        own["model"] = {"random": False, "shape": None, "tokenizer": None, **source}
        own["positions"] = {"prepend_cls": False}
    return system_config(
        root / "reviewed", root / "recsysllm", model=own, train={"acc_batch": acc_batch}
    )


def _own(root: Path) -> Path:
    """A folder of this process alone: all of them write their language models at once."""
    return root / f"process-{os.environ.get('RANK', '0')}"


def tiger_steps(root: Path, reads: str) -> RunConfig:
    """Sequences or histories of tuples of codes, of codes that MiniLM's vectors give."""
    model = {
        "system": "tiger", "name": "tiger", "width": 8, "layers": 1, "heads": 2, "head_width": 4,
        "feed_forward": 16, "users": 5, "codes": {"levels": 2, "size": 6}, "dropout": 0.0,
        "reads": reads,
    }  # fmt: skip
    train = {"epochs": 1, "batch_size": 5}
    return tiny_config(root / "clicked", root / "runs", model=model, train=train)


def recipe_of(config: RunConfig, accelerator: Accelerator) -> Recipe:
    """The training of a configuration, about to begin."""
    place = Workplace.open(config, accelerator, Tables.load(config.data.folder))
    train = config.exp.train
    if config.model.system == "cllm4rec":
        cllm4rec = Cllm4RecSystem(place)
        rows = cllm4rec.task_rows(lambda text: None)
        return Cllm4RecRecipe(accelerator, cllm4rec.model, rows, train)
    if config.model.system == "bricks":
        bricks, rows = Bricks(place), place.training_rows()
        return BricksRecipe(accelerator, bricks.model, place.store, rows, train)
    if config.model.system == "tiger":
        tiger = TigerSystem(place)
        return tiger.recipe(tiger.make_codes(lambda text: None))
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
                        found[f"{place} {key}"] = whole(parameter.grad).clone()
                        parameter.grad = None

            recipe.replicas.step = keep  # type: ignore[method-assign]
            log, _ = take_step(recipe)
            for key in ("loss", "likelihood", "regularisation", "gradient_norm"):
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
