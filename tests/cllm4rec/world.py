"""A planted world as tables: clusters of users who share items, and items whose texts tell them.

A user has most items of its cluster in training, one in valid and one in test. The last item of
every cluster is nobody's in training: only its text says where it belongs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from legos.config.schema import RunConfig
from legos.files import sha256_of_file, sha256_of_text, write_array, write_json

CLUSTERS, USERS, ITEMS = 4, 5, 8  # users and items of a cluster
SUBJECTS = ("piano", "rocket", "garden", "harbour")
_SENTENCES = (
    "has interacted with will interact the user : wrote writes following review for The title "
    "brand description categories content biography of is are explains reason purchasing , "
)


def world_tables(folder: Path, *, reviews: bool = False) -> Path:
    """Write the tables; returns ``folder``. With ``reviews`` training pairs have one each."""
    tables: dict[str, Any] = {}
    cluster = np.arange(CLUSTERS * ITEMS) // ITEMS
    users = np.arange(CLUSTERS * USERS)
    pairs = {"train": [], "valid": [], "test": []}  # type: ignore[var-annotated]
    for user in users:
        own = user // USERS * ITEMS + np.arange(ITEMS - 1)  # the last is cold
        held_out = np.roll(own, -int(user % USERS))[:2]
        pairs["train"].append(np.setdiff1d(own, held_out))
        pairs["valid"].append(held_out[:1])
        pairs["test"].append(held_out[1:])
    titles = [f"a {SUBJECTS[c]} number{i % ITEMS}" for i, c in enumerate(cluster)]

    def note(table: str, column: str, kind: str, rows: int, dtype: str, vocabulary: Any) -> None:
        described = tables.setdefault(table, {"rows": rows, "columns": {}})
        described["columns"][column] = {"kind": kind, "dtype": dtype, "vocabulary": vocabulary}

    def scalar(table: str, column: str, values: Any, dtype: str, vocabulary: Any = None) -> None:
        write_array(folder / f"columns/{table}/{column}.npy", np.asarray(values, dtype=dtype))
        note(table, column, "scalar", len(values), dtype, vocabulary)

    def lists(table: str, column: str, rows: list[Any], dtype: str, vocabulary: Any) -> None:
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        place = folder / "columns" / table
        write_array(place / f"{column}.values.npy", np.concatenate(rows).astype(dtype))
        write_array(place / f"{column}.offsets.npy", offsets)
        note(table, column, "list", len(rows), dtype, vocabulary)

    words = ["?", *dict.fromkeys(" ".join(titles).split())]
    ids = [[words.index(word) for word in title.split()] for title in titles]
    lists("items", "title@words", ids, "int32", "words")
    scalar("users", "user_id", users, "int32", "user_id")
    empty = [np.zeros(0, dtype=np.int32) for _ in users]
    lists("histories", "items", [*empty, *pairs["train"]], "int32", "item_id")
    scalar("histories", "user_id", [*users, *users], "int32", "user_id")
    vocabularies = {
        "item_id": [f"B{i}" for i in range(len(cluster))],
        "user_id": [f"U{i}" for i in users],
        "words": words,
    }
    for split, clicked in pairs.items():
        vocabularies[f"impression_id@{split}"] = [f"{split}-{user}" for user in users]
        scalar(split, "impression_id", users, "int32", f"impression_id@{split}")
        scalar(split, "user_id", users, "int32", "user_id")
        scalar(split, "history", users + (0 if split == "train" else len(users)), "int32")
        scalar(split, "time", np.full(len(users), -1), "int64")
        lists(split, "candidates", clicked, "int32", "item_id")
        lists(split, "labels", [np.ones(len(row)) for row in clicked], "int8", None)
    more: dict[str, Any] = {}
    if reviews:
        bought = [(user, item) for user in users for item in pairs["train"][user]]
        scalar("reviews", "user_id", [user for user, _ in bought], "int32", "user_id")
        scalar("reviews", "item_id", [item for _, item in bought], "int32", "item_id")
        scalar("reviews", "split", [0 for _ in bought], "int32", "split")
        scalar("reviews", "rating", [5.0 for _ in bought], "float32")
        scalar("reviews", "time", [-1 for _ in bought], "int64")
        vocabularies["split"] = ["train"]
        texts = [f"my {SUBJECTS[cluster[item]]} is fine" for _, item in bought]
        write_json(folder / "columns/reviews/review.json", texts)
        more["table_fields"] = {"reviews": {"review": {"kind": "text", "tokenizers": []}}}
    write_json(folder / "columns/items/title.json", titles)
    for name, entries in vocabularies.items():
        write_json(folder / f"columns/vocabulary/{name}.json", entries)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
        }
        for path in paths
    }
    manifest = {
        "format": 1,
        "name": "world",
        "fields": {"title": {"kind": "text", "tokenizers": ["words"]}},
        "tables": tables,
        "vocabularies": {n: {"size": len(e), "sha256": ""} for n, e in vocabularies.items()},
        "tokenizers": {},
        "files": files,
        "summary": {},
        "fingerprint": sha256_of_text("".join(files[path]["sha256"] for path in files)),
        **more,
    }
    write_json(folder / "manifest.json", manifest)
    return folder


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
    stages = {
        "warmup_epochs": 1,
        "pretraining_epochs": 2,
        "finetuning_epochs": 2,
        "pretraining_lr": 0.01,
        "finetuning_lr": 0.01,
        "batch_size": 8,
    }
    section = {
        "system": "cllm4rec",
        "name": "cllm4rec",
        "model": world_language_model(root / "llama"),
        "max_length": 64,
        **given,
        "stages": {**stages, **given.get("stages", {})},
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
    """``python -m tests.cllm4rec.world CONFIG.json`` runs what a file says."""
    from legos.run.main import run

    run(RunConfig.model_validate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
