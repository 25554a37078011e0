"""The systems as runs of a second, each with every phase that it has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from tests.modes.tiny_config import GLORY, MANNER, NAML, tiny_config
from tests.systems.cllm4rec.world import world_config, world_tables
from tests.systems.recsysllm.reviews import reviewed_tables
from tests.systems.recsysllm.system import system_config
from tests.tiny import cut_otherwise, tiny_tables


def bricks(root: Path) -> RunConfig:
    """NAML with dropout and accumulated gradients: three steps an epoch, the last one short."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=22)
    train = {
        "epochs": 3, "batch_size": 4, "acc_batch": 2, "checkpoint_minutes": 60.0,
        "checkpoint_steps": 2,
    }  # fmt: skip
    return tiny_config(tables, root / "runs", train=train)


def sampled(root: Path) -> RunConfig:
    """SASRec on sequences; a step's clicks share negatives, other rows of the table wait."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=22)
    model = {
        "name": "sasrec", "hidden_size": 8, "item": {"name": "id"},
        "user": {"name": "sasrec", "positions": "oldest"}, "predictor": {"name": "dot"},
    }  # fmt: skip
    train = {
        "epochs": 3, "batch_size": 4, "acc_batch": 2, "sequences": True, "checkpoint_steps": 2,
        "loss": "sampled_softmax", "negatives": {"strategy": "uniform", "shared": True, "count": 9},
        "optimizer": "lazy_adam", "clip": 0.5,
    }  # fmt: skip
    return tiny_config(tables, root / "runs", model=model, train=train)


def news(model: dict[str, Any], root: Path) -> RunConfig:
    """MANNeR, whose steps draw items by their labels, or GLORY, whose graph is built anew."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=22)
    train = {"epochs": 2, "batch_size": 4, "acc_batch": 2, "checkpoint_steps": 2}
    return tiny_config(tables, root / "runs", model=model, train=train)


def preset(name: str, root: Path) -> RunConfig:
    """A sequential model of the table and its own training, at a width of 8 and in three epochs."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=22)
    words = ["--data", "amazon-beauty", "--exp", "sequential", "--model", name]
    shipped = load_run_config([*words, "--hidden_size", "8"], notice=lambda text: None)
    model = shipped.model.model_dump()
    if name == "unisrec":  # its texts are read without a sentence encoder
        model["item"] = {"name": "pooling"}
    train = shipped.exp.train.model_dump() | {
        "epochs": 3, "epoch_batch": 0, "batch_size": 4, "checkpoint_steps": 2, "metric": "GAUC",
    }  # fmt: skip
    return tiny_config(tables, root / "runs", model=model, train=train)


def lora(root: Path) -> RunConfig:
    """NAML over a language model that learns by LoRA above a cached layer."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=10)
    return lora_config(tables, root)


def lora_config(tables: Path, root: Path, *, dropout: float = 0.1, **exp: Any) -> RunConfig:
    """:func:`lora` over tables that are there."""
    shape = {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": 16, "num_hidden_layers": 3,
        "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64,
        "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    source = {"name": "tiny", "random": True, "tokenizer": "minilm", "shape": shape}
    brick = {
        "name": "language_model", "model": source, "attention_size": 8, "layer": 2, "lora_rank": 2,
        "lora_dropout": dropout,
    }  # fmt: skip
    exp = {"cache": {"folder": str(root / "cache")}, **exp}
    train = {"epochs": 2, "batch_size": 6, "item_lr": 0.001, "checkpoint_steps": 2}
    return tiny_config(tables, root / "runs", model={**NAML, "item": brick}, train=train, **exp)


def cllm4rec(root: Path) -> RunConfig:
    """All stages; pretraining, too, is measured, to choose the content tables it leaves."""
    return _cllm4rec(root, content={"checkpoint": "valid"})


def cllm4rec_by_loss(root: Path) -> RunConfig:
    """Tables of both sides are kept to the end of pretraining; of content those of warm-up.

    So strong a pull that pretraining never has the loss of warm-up.
    """
    kept = {"checkpoint": "training_loss"}
    return _cllm4rec(root, content=kept, collaborative=kept, mutual={"weight": 100.0})


def llm_cf(root: Path) -> RunConfig:
    """CLLM4Rec without texts: nothing comes after the last validation."""
    return _cllm4rec(root, content={"enabled": False})


def _cllm4rec(root: Path, **model: Any) -> RunConfig:
    world_tables(root / "tables", reviews=True)
    stages = {
        "pretraining_epochs": 1, "finetuning_epochs": 2, "content_steps": 2, "valid_users": 4,
    }  # fmt: skip
    model["train"] = {"batch_size": 10, "stages": stages}
    return world_config(root, model=model, train={"checkpoint_steps": 2})


def recsysllm(root: Path) -> RunConfig:
    """LoRA with dropout, two epochs of prompts and histories with blanks."""
    tables = reviewed_tables(root)
    model = {
        "train": {"epochs": 2, "epoch_steps": 3, "batch_size": 3},
        "measure": {
            "beams": 5, "valid_beams": 5, "users": 3, "valid_users": 2,
            "prompts": ["sequential-6"],
        },
    }  # fmt: skip
    metrics = ["HR@5", "nDCG@5"]
    return system_config(
        tables.folder,
        root,
        model=model,
        train={"checkpoint_steps": 2, "metric": "nDCG@5"},
        evaluate={"metrics": metrics, "beyond_accuracy_k": None},
    )


def tiger(root: Path) -> RunConfig:
    """Codes of words, dropout, accumulated gradients, two epochs of shown candidates."""
    tables = tiny_tables(root / "tables", num_items=24, num_users=12, num_impressions=22)
    cut_otherwise(tables)  # no words that MiniLM would know
    model = {
        "system": "tiger", "name": "tiger", "width": 8, "layers": 1, "heads": 2, "head_width": 4,
        "feed_forward": 16, "users": 5, "codes": {"levels": 2, "size": 6},
    }  # fmt: skip
    train = {"epochs": 2, "batch_size": 8, "acc_batch": 2, "checkpoint_steps": 2}
    return tiny_config(tables, root / "runs", model=model, train=train)


PRESETS = ("bert4rec_id", "gru4rec_id", "gsasrec_id", "hstu_id", "unisrec")
MORE: dict[str, Callable[[Path], RunConfig]] = {
    "lora": lora,
    "manner": partial(news, MANNER),
    "glory": partial(news, GLORY),
    "sampled": sampled,
    "cllm4rec_by_loss": cllm4rec_by_loss,
    **{name: partial(preset, name) for name in PRESETS},
}
SYSTEMS: dict[str, Callable[[Path], RunConfig]] = {
    "bricks": bricks,
    "cllm4rec": cllm4rec,
    "llm_cf": llm_cf,
    "recsysllm": recsysllm,
    "tiger": tiger,
}


def into(config: RunConfig, runs: Path) -> RunConfig:
    """The same run in another runs folder."""
    return config.model_copy(update={"exp": config.exp.model_copy(update={"runs_folder": runs})})
