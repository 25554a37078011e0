"""The paper's tables: each preset is one command that ends with its rows, on a tiny world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import worker
from legos.config.load import load_run_config
from legos.data.tables import Tables
from tests.systems.recsysllm.small import small_llama
from tests.systems.recsysllm.system import word_language_model

ROWS: dict[str, set[str]] = {
    "rating": {
        "rating, seen prompt rating-6: recsysllm",
        "rating, unseen prompt rating-10: recsysllm",
        "rating, user and item means (no model): recsysllm",
        "rating, matrix factorization (ids alone): recsysllm",
        "rating, multi-layer perceptron (ids alone): recsysllm",
    },
    "sequential": {
        "sequential, seen prompt sequential-3: recsysllm",
        "sequential, unseen prompt sequential-13: recsysllm",
    },
    "explanation": {
        "explanation, seen prompt explanation-3: recsysllm",
        "explanation, seen prompt explanation-9: recsysllm",
        "explanation, unseen prompt explanation-12: recsysllm",
        "explanation, most frequent explanation (no model): recsysllm",
        "explanation, NRT (ids alone): recsysllm",
        "explanation, PETER (ids alone): recsysllm",
        "explanation, PETER+ (ids and the feature): recsysllm",
    },
    "review": {
        "review, seen prompt review-1: recsysllm",
        "review, unseen prompt review-4: recsysllm",
        "review, most frequent headline (no model): recsysllm",
    },
    "direct": {
        "direct, seen prompt direct-5: recsysllm",
        "direct, unseen prompt direct-8: recsysllm",
    },
    "payments": {
        f"{row}: {model}"
        for row in ("sequential, seen prompt sequential-7", "direct, seen prompt direct-5")
        for model in ("recsysllm", "sft", "untrained")
    },
    "rank": {f"sequential, seen prompt sequential-3: rank-{rank}" for rank in (2, 4, 8, 16, 32)},
}


@pytest.fixture(scope="module")
def command(reviewed: Tables, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes a preset small; all presets share their runs."""
    folder = tmp_path_factory.mktemp("paper")
    source = word_language_model(folder / "llama")
    small_llama(words=source["shape"]["vocab_size"]).save_pretrained(folder / "llama")
    data = {
        "name": "reviewed", "folder": str(reviewed.folder), "fields": ["title@words"],
        "history_length": 10, "splits": {"test": ["test"]},
    }  # fmt: skip
    (folder / "reviewed.yaml").write_text(json.dumps(data))
    words = {
        "data": folder / "reviewed.yaml", "device": "cpu", "llm_ver": folder / "llama",
        "horizons": "count", "layers": "1", "epochs": "1", "epoch_steps": "2",
        "examples_per_step": "4", "users": "2", "valid_users": "2", "max_tokens": "256",
        "exp.runs_folder": folder / "runs", "exp.report": "false",
        "exp.cache.candidate_folder": folder / "candidates", "train_negatives": "[3]",
        "beams": "4",
    }  # fmt: skip
    return [part for name, value in words.items() for part in (f"--{name}", str(value))]


SHORTER = {
    "negatives": "5", "max_tokens": "250", "rating_models.epochs": "1",
    "explanation_models.epochs": "1", "explanation_models.size": "8",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("table", ROWS)
def test_a_table_of_the_paper_is_one_command(table: str, command: list[str]) -> None:
    own = [*command, "--exp", f"recsysllm-{table}"]
    place = "exp.compare.models.0" if table == "sequential" else "model"  # SASRec has no such keys
    for key, value in SHORTER.items():
        own += [f"--{place}.measure.{key}", value]
    assert worker.main(own) == 0
    config = load_run_config(own)
    found = results(config.exp.runs_folder, table)
    rows = {row["name"]: row for row in found["subsets"]["test"]}
    assert ROWS[table] <= set(rows)
    models = [row["name"] for row in found["rows"]["test"]]
    assert models[:2] == ["popularity", "item-kNN"]
    if table == "sequential":
        assert "sasrec_id" in models
    if table == "rank":
        assert found["curve"]["key"] == "model.backbone.lora_rank"
        assert list(found["curve"]["values"].values()) == [2, 4, 8, 16, 32]


def results(runs: Path, table: str) -> dict[str, Any]:
    """Of the comparison that has the rows of a table."""
    for path in runs.glob("reviewed/compare-*/results.json"):
        found: dict[str, Any] = json.loads(path.read_text())
        if ROWS[table] <= {row["name"] for row in found["subsets"]["test"]}:
            return found
    raise AssertionError(f"{table}: no comparison has its rows")
