"""A small run configuration over tiny tables, and a way to run it as a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from legos.config.schema import RunConfig
from tests.tiny import tiny_tables

NAML: dict[str, Any] = {
    "name": "naml",
    "hidden_size": 8,
    "item": {"name": "cnn", "attention_size": 8},
    "user": {"name": "additive_attention", "attention_size": 8},
    "predictor": {"name": "dot"},
}
MANNER: dict[str, Any] = {
    "name": "manner",
    "hidden_size": 8,
    "item": {
        "name": "manner",
        "encoder": {"name": "cnn", "attention_size": 8},
        "labels": 3,
        "items_per_label": 4,
    },
    "user": {"name": "pooling"},
    "predictor": {"name": "manner", "weights": {"category": 0.5}},
}
GLORY: dict[str, Any] = {
    "name": "glory",
    "hidden_size": 8,
    "item": {
        "name": "glory",
        "encoder": {"name": "cnn", "attention_size": 8},
        "num_neighbors": 2,
        "attention_size": 8,
    },
    "user": {"name": "glory", "num_heads": 2, "attention_size": 8},
    "predictor": {"name": "dot"},
}
POOLING: dict[str, Any] = {
    "name": "pooling",
    "hidden_size": 8,
    "item": {"name": "pooling"},
    "user": {"name": "pooling"},
    "predictor": {"name": "dot"},
}


def tiny_yamls(folder: Path, exp: str) -> Path:
    """Tables, and the YAMLs data, model and exp of a small command line; the folder of them all."""
    tables = tiny_tables(folder / "tables")
    (folder / "data.yaml").write_text(
        f"name: tiny\nfolder: {tables}\nfields: [title@words, category]\nhistory_length: 6\n"
    )
    (folder / "model.yaml").write_text(
        "name: small\nhidden_size: 8\nitem: pooling\nuser: pooling\npredictor: dot\n"
    )
    (folder / "exp.yaml").write_text(exp)
    return folder


def tiny_config(tables: Path, runs: Path, *, model: dict[str, Any] = NAML, **exp: Any) -> RunConfig:
    """A ``train_test`` run of some seconds; ``exp`` replaces keys of the experiment."""
    train = {"lr": 0.01, "batch_size": 16, "epochs": 6, "seed": 1, **exp.pop("train", {})}
    return RunConfig.model_validate(
        {
            "data": {
                "name": "tiny",
                "folder": str(tables),
                "fields": ["title@words", "category"],
                "history_length": 6,
                **exp.pop("data", {}),
            },
            "model": model,
            "embed": {"name": "null", "source": "random"},
            "exp": {
                "name": "test",
                "mode": "train_test",
                "device": "cpu",
                "runs_folder": str(runs),
                "report": False,
                "train": train,
                **exp,
            },
        }
    )


def main() -> None:
    """``python -m tests.modes.tiny_config TABLES RUNS '{"mode": ...}'`` prints the results."""
    from legos.modes.main import run

    tables, runs, exp = sys.argv[1:]
    results = run(tiny_config(Path(tables), Path(runs), **json.loads(exp)))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
