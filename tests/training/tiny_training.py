"""A small real training on tiny tables, in this process or as one of its own.

``python -m tests.training.tiny_training '{"tables": ..., "folder": ..., ...}'`` trains and writes
``weights.safetensors``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

import legos.training.trainer
from legos.config.data_schema import FieldConfig
from legos.data.batch import TrainingRows
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.sampling import NegativeSampler
from legos.data.tables import Tables
from legos.item.cnn import CNNConfig
from legos.predictor.dot import DotConfig
from legos.recommender import Recommender, build_recommender
from legos.runs.tracking import Tracker
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.early_stopping import EarlyStopping
from legos.training.saved_state import SavedState
from legos.training.weights import model_tensors, seed_everything
from legos.user.additive_attention import AdditiveAttentionConfig
from legos.workplace.device import joined_processes, make_accelerator

FIELDS = (
    FieldConfig(name="title", column="title@words", length=5),
    FieldConfig(name="category", column="category"),
)
DEFAULTS: dict[str, Any] = {
    "loss": "softmax",
    "margin": 0.9,
    "negative_weight": 10.0,
    "calibration": 0.75,
    "optimizer": "adamw",
    "lr": 0.01,
    "item_lr": None,
    "weight_decay": 0.01,
    "warmup": 0.2,
    "schedule": "linear",
    "clip": 1.0,
    "batch_size": 16,
    "acc_batch": 1,
    "item_page_size": 0,
    "epoch_batch": 0,
    "epochs": 3,
    "patience": 0,
    "metric": "loss",
    "seed": 1,
    "checkpoint_minutes": 60.0,
    "checkpoint_steps": 0,
}


def tiny_model(tables: Tables, store: ItemStore, *, dropout: float = 0.2) -> Recommender:
    choice = SimpleNamespace(
        hidden_size=8,
        item=CNNConfig(dropout=dropout, attention_size=8),
        user=AdditiveAttentionConfig(attention_size=8),
        predictor=DotConfig(),
    )
    known = SimpleNamespace(
        items=torch.ones(tables.num_items, dtype=torch.bool),
        users=torch.ones(tables.num_users, dtype=torch.bool),
    )
    return build_recommender(choice, store, known=known, seed=1)


def tiny_training(
    tables_folder: Path,
    *,
    accelerator: Accelerator | None = None,
    dropout: float = 0.2,
    double: bool = False,
    **settings: Any,
) -> BricksRecipe:
    """A CNN + additive attention model on the training split of tiny tables.

    ``double`` computes in float64, where only a wrong sum and no rounding shows.
    """
    config: Any = SimpleNamespace(**{**DEFAULTS, **settings})
    if accelerator is None:
        accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    tables = Tables.load(tables_folder)
    store = ItemStore.from_tables(tables, FIELDS)
    interactions = Interactions.from_tables(tables, "train", history_length=6)
    sampler = NegativeSampler(
        interactions, num_items=len(store), strategy="impression", count=3, seed=config.seed
    )
    model = tiny_model(tables, store, dropout=dropout)
    seed_everything(config.seed, rank=accelerator.process_index)
    return BricksRecipe(
        accelerator,
        model.double() if double else model,
        store,
        TrainingRows(interactions, sampler),
        config,
        early_stopping=EarlyStopping(config.metric, False, config.patience),
        impression_name=lambda row: f"row{row}",
    )


def train_tiny(training: BricksRecipe, folder: Path) -> None:
    """Train to the end (or a kill), validating by the loss on a fixed batch."""

    def validate() -> dict[str, float]:
        training.model.eval()
        batch = training.rows.batch(torch.arange(40), pass_number=0)
        with torch.no_grad():
            scores: Tensor = training.bare_model(batch, training.store.batch(batch.items)).scores
        training.model.train()
        return {"loss": float(-scores.log_softmax(1)[:, 0].mean())}

    tracker = Tracker(folder, enabled=training.accelerator.is_main_process, quiet=True)
    saved = saved_tiny(training, folder / "checkpoints", tracker)
    legos.training.trainer.Trainer(training, validate, saved, tracker).train()
    tracker.close()


def saved_tiny(training: BricksRecipe, folder: Path, tracker: Any = None) -> SavedState:
    """The checkpoints of a training in a folder."""
    tracker = tracker or Tracker(folder, enabled=False)
    return SavedState(training, folder, "tiny", tracker)


def final_weights(training: BricksRecipe) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model_tensors(training.bare_model).items()}


def main() -> None:
    settings = json.loads(sys.argv[1])
    folder = Path(settings.pop("folder"))
    training = tiny_training(Path(settings.pop("tables")), **settings)
    with joined_processes(training.accelerator):
        train_tiny(training, folder)
        weights = final_weights(training)
        if training.accelerator.is_main_process:
            save_file(weights, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
