"""A tiny random LLaMA over the small reviewed tables, as a run of the worker reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from legos.config.schema import RunConfig
from legos.files import write_json
from legos.systems.recsysllm.prompts import builtin_prompts
from tests.systems.recsysllm.reviews import FEATURES, ITEMS, OPINIONS, USERS


def word_language_model(folder: Path, more: str = "") -> dict[str, Any]:
    """A random LLaMA of two layers; its tokenizer knows the words of prompts, tables and more."""
    parts = " ".join(part for t in builtin_prompts().templates for part in t.parts)
    numbers = " ".join([*map(str, range(ITEMS)), *(f"user_{user}" for user in range(USERS))])
    text = f"Thing number deluxe Acme untitled # {numbers} {' '.join((*FEATURES, *OPINIONS))}"
    text = f"{text} A one by I got it The is Ok yes no like dislike Customer History {parts} {more}"
    splitter = pre_tokenizers.Whitespace()
    words = list(dict.fromkeys(["?", *(word for word, _ in splitter.pre_tokenize_str(text))]))
    tokenizer = Tokenizer(models.WordLevel({w: row for row, w in enumerate(words)}, "?"))
    tokenizer.pre_tokenizer = splitter
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    shape = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.1,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    write_json(folder / "config.json", shape)
    return {"name": "tiny-llama", "random": True, "shape": shape, "tokenizer": str(folder)}


def system_config(tables: Path, root: Path, *, words: str = "", **sections: Any) -> RunConfig:
    """RecSysLLM over tables; a section's keys win over those of few short steps.

    The tokenizer also knows ``words``.
    """
    model: dict[str, Any] = {
        "backbone": {"layers": 2, "lora_targets": "qkv", "lora_dropout": 0.1},
        "positions": {"max_tokens": 256},
        "tasks": {
            "num_negatives": 4, "max_tokens": 256, "max_answer_tokens": 20,
            "horizons": {"by": "count"},
        },
        "train": {
            "epochs": 2, "epoch_steps": 4, "batch_size": 6, "batch_tokens": 300, "lr": 0.01,
        },
        "measure": {
            "beams": 10, "most_read": None, "users": 9, "valid_users": 5, "negatives": 6,
            "max_tokens": 512, "batch_size": 4,
        },
    }  # fmt: skip
    for name, given in sections.pop("model", {}).items():
        model[name] = {**model.get(name, {}), **given} if isinstance(given, dict) else given
    exp: dict[str, Any] = {
        "name": "test", "mode": "train_test", "device": "cpu", "report": False,
        "runs_folder": str(root / "runs"),
        "cache": {"candidate_folder": str(root / "candidates")},
        "train": {"metric": "nDCG@10", "seed": 3, "checkpoint_minutes": 60.0},
        "evaluate": {
            "ranking": "all", "metrics": ["HR@5", "HR@10", "nDCG@5", "nDCG@10"],
            "beyond_accuracy_k": 5,
        },
    }  # fmt: skip
    for name, given in sections.items():
        exp[name] = {**exp.get(name, {}), **given} if isinstance(given, dict) else given
    return RunConfig.model_validate(
        {
            "data": {
                "name": "reviewed",
                "folder": str(tables),
                "fields": ["title@words"],
                "history_length": 10,
            },
            "model": {
                "system": "recsysllm",
                "name": "recsysllm",
                "model": word_language_model(root / "llama", words),
                **model,
            },
            "embed": {"name": "null", "source": "random"},
            "exp": exp,
        }
    )


def yamls(config: RunConfig, folder: Path, name: str = "tiny") -> list[str]:
    """Data and model YAMLs of a configuration; the words of a command that names them."""
    (folder / "reviewed.yaml").write_text(config.data.model_dump_json())  # JSON is YAML
    model = json.loads(config.model.model_dump_json())
    model["train"] = json.loads(config.exp.train.model_dump_json(exclude={"seed"}))
    (folder / f"{name}.yaml").write_text(json.dumps({**model, "name": name}))
    words = ["--data", str(folder / "reviewed.yaml"), "--model", str(folder / f"{name}.yaml")]
    words += ["--exp", "recsysllm", "--exp.runs_folder", str(folder / "runs"), "--device", "cpu"]
    words += ["--exp.cache.candidate_folder", str(folder / "candidates"), "--seed", "3"]
    return words


def main() -> None:
    """``python -m tests.systems.recsysllm.system CONFIG.json`` runs what a file says."""
    from legos.modes.main import run

    run(RunConfig.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
