"""A planted world as tables: clusters of users who share items, and items whose texts tell them.

A user has most items of its cluster in training, one in valid and one in test. The last item of
every cluster is nobody's in training: only its text says where it belongs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from legos.config.schema import RunConfig
from legos.data.ragged import Ragged, RaggedArray, offsets_of
from legos.files import write_json
from process.columns import ColumnWriter

CLUSTERS, USERS, ITEMS = 4, 5, 8  # users and items of a cluster
SUBJECTS = ("piano", "rocket", "garden", "harbour")
_SENTENCES = (
    "has interacted with will interact the user : wrote writes following review for The title "
    "brand description categories content biography of is are explains reason purchasing , "
)


def world_tables(folder: Path, *, reviews: bool = False) -> Path:
    """Write the tables; returns ``folder``. With ``reviews`` training pairs have one each."""
    cluster = np.arange(CLUSTERS * ITEMS) // ITEMS
    users = np.arange(CLUSTERS * USERS, dtype=np.int32)
    pairs: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    for user in users:
        own = user // USERS * ITEMS + np.arange(ITEMS - 1)  # the last is cold
        held_out = np.roll(own, -int(user % USERS))[:2]
        pairs["train"].append(np.setdiff1d(own, held_out))
        pairs["valid"].append(held_out[:1])
        pairs["test"].append(held_out[1:])
    titles = [f"a {SUBJECTS[c]} number{i % ITEMS}" for i, c in enumerate(cluster)]
    words = ["?", *dict.fromkeys(" ".join(titles).split())]
    ids = [[words.index(word) for word in title.split()] for title in titles]
    writer = ColumnWriter(folder)
    writer.lists("items", "title@words", _lists(ids), "words")
    writer.texts("title", titles)
    writer.vocabulary("words", words)
    writer.vocabulary("item_id", [f"B{i}" for i in range(len(cluster))])
    writer.vocabulary("user_id", [f"U{i}" for i in users])
    writer.scalar("users", "user_id", users, "user_id")
    empty = [np.zeros(0, dtype=np.int32) for _ in users]
    writer.lists("histories", "items", _lists([*empty, *pairs["train"]]), "item_id")
    writer.scalar("histories", "user_id", np.concatenate([users, users]), "user_id")
    for split, clicked in pairs.items():
        writer.vocabulary(f"impression_id@{split}", [f"{split}-{user}" for user in users])
        writer.scalar(split, "impression_id", users, f"impression_id@{split}")
        writer.scalar(split, "user_id", users, "user_id")
        writer.scalar(split, "history", users + (0 if split == "train" else USERS * CLUSTERS))
        writer.scalar(split, "time", np.full(len(users), -1, dtype=np.int64))
        writer.lists(split, "candidates", _lists(clicked), "item_id")
        writer.lists(split, "labels", _lists([np.ones(len(row), dtype=np.int8) for row in clicked]))
    fields = {"title": {"kind": "text", "tokenizers": ["words"]}}
    more: dict[str, Any] = {}
    if reviews:
        _write_reviews(writer, [(u, i) for u in users for i in pairs["train"][u]], cluster)
        more["table_fields"] = {"reviews": {"review": {"kind": "text", "tokenizers": []}}}
    writer.manifest(
        name="world",
        layout="leave-last-out",
        split_rule="made up",
        fields=fields,
        sources=[],
        summary={},
        oddities={},
        **more,
    )
    return folder


def _lists(rows: Sequence[Sequence[int] | np.ndarray]) -> RaggedArray:
    arrays = [np.asarray(row) for row in rows]
    values = np.concatenate(arrays)
    small = values if values.dtype == np.int8 else values.astype(np.int32)
    return Ragged(small, offsets_of(np.array([len(row) for row in arrays])))


def _write_reviews(
    writer: ColumnWriter, bought: list[tuple[int, int]], cluster: np.ndarray
) -> None:
    pairs = np.array(bought, dtype=np.int32)
    writer.scalar("reviews", "user_id", pairs[:, 0], "user_id")
    writer.scalar("reviews", "item_id", pairs[:, 1], "item_id")
    writer.scalar("reviews", "split", np.zeros(len(pairs), dtype=np.int32), "split")
    writer.scalar("reviews", "rating", np.full(len(pairs), 5, dtype=np.float32))
    writer.scalar("reviews", "time", np.full(len(pairs), -1, dtype=np.int64))
    writer.vocabulary("split", ["train"])
    texts = [f"my {SUBJECTS[cluster[item]]} is fine" for item in pairs[:, 1]]
    writer.texts("review", texts, table="reviews")


def world_language_model(folder: Path, **shape: Any) -> dict[str, Any]:
    """A random LLaMA and a word tokenizer that lies in ``folder``."""
    titles = " ".join(f"a {subject} number{i}" for subject in SUBJECTS for i in range(ITEMS))
    text = f"{_SENTENCES} {titles} my fine"
    words = ["?", *dict.fromkeys(text.split())]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    llama = {
        "model_type": "llama",
        "vocab_size": len(words) + 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
        "attention_dropout": 0.1,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    write_json(folder / "config.json", llama)
    return {
        "name": "tiny-llama",
        "random": True,
        "shape": {**llama, **shape},
        "tokenizer": str(folder),
    }


def world_config(root: Path, *, model: dict[str, Any] | None = None, **exp: Any) -> RunConfig:
    """CLLM4Rec over the tables and the language model in ``root``, few short stages."""
    given = dict(model or {})
    own = given.pop("train", {})
    stages = {
        "warmup_epochs": 1,
        "pretraining_epochs": 2,
        "finetuning_epochs": 2,
        "finetuning_lr": 0.01,
        **own.get("stages", {}),
    }
    section = {
        "system": "cllm4rec",
        "name": "cllm4rec",
        "model": world_language_model(root / "llama"),
        "max_length": 64,
        **given,
        "train": {"lr": 0.01, "batch_size": 8, **own, "stages": stages},
    }
    train = {"metric": "nDCG@10", "seed": 3, "checkpoint_minutes": 60.0, **exp.pop("train", {})}
    evaluate = {
        "ranking": "all",
        "metrics": ["Recall@1", "Recall@4", "nDCG@10"],
        "beyond_accuracy_k": 4,
        **exp.pop("evaluate", {}),
    }
    return RunConfig.model_validate(
        {
            "data": {
                "name": "world",
                "folder": str(root / "tables"),
                "fields": ["title@words"],
                "history_length": 10,
            },
            "model": section,
            "embed": {"name": "null", "source": "random"},
            "exp": {
                "name": "test",
                "mode": "train_test",
                "device": "cpu",
                "runs_folder": str(root / "runs"),
                "report": False,
                "cache": {"token_folder": str(root / "cache/tokens")},
                "train": train,
                "evaluate": evaluate,
                **exp,
            },
        }
    )


def main() -> None:
    """``python -m tests.systems.cllm4rec.world CONFIG.json`` runs what a file says."""
    from legos.modes.main import run

    run(RunConfig.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
