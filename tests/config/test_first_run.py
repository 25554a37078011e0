"""Data alone on a command line: model, experiment and training follow from the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from tests.tiny import cut_otherwise, tiny_tables

Load = Callable[..., tuple[RunConfig, str]]
SHOWN = {"train": "shown", "valid": "shown", "test": "shown"}
UNIFORM = {"train": "uniform", "valid": "popularity", "test": "popularity"}
NONE = {"train": "none", "valid": "none", "test": "none"}
CHINESE = {"source": "smollm2"}  # of the tokenizer of the texts


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The configuration of tables with entries of their manifest changed, and what was told."""
    folder = tiny_tables(tmp_path_factory.mktemp("data") / "tiny")
    manifest = json.loads((folder / "manifest.json").read_text())

    def loaded(
        *words: str, fields: str = "[title@words, category]", source: str = "", **entries: Any
    ) -> Any:
        (folder / "manifest.json").write_text(json.dumps(manifest | entries))
        if source:
            cut_otherwise(folder, source)
        text = f"name: tiny\nfolder: x\nfields: {fields}\nhistory_length: 6\n"
        (folder / "data.yaml").write_text(text)
        told: list[str] = []
        return load_run_config(["--data", str(folder), *words], notice=told.append), " ".join(told)

    return loaded


def test_a_search_without_a_model_is_one_of_recommended(load: Load) -> None:
    config, told = load("--exp", "search", **CHINESE)
    assert (config.model.name, config.exp.mode) == ("recommended_words", "search")
    assert "using --model recommended_words" in told


def clicks(number: int) -> dict[str, Any]:
    return {"splits": {"train": {"clicks": number}, "valid": {"clicks": 9}, "test": {"clicks": 9}}}


@pytest.mark.parametrize(
    ("entries", "model", "exp", "epochs", "strategy"),
    [
        ({}, "recommended", "tt", 4, "popularity"),
        ({"summary": clicks(10**6)}, "recommended", "tt", 4, "popularity"),
        ({"summary": clicks(5_000), "negatives": UNIFORM}, "recommended", "tt", 50, "popularity"),
        ({"negatives": SHOWN}, "recommended", "tt", 4, "impression"),
        ({"fields": "[]"}, "recommended_ids", "tt", 4, "popularity"),
        (CHINESE, "recommended_words", "tt", 4, "popularity"),
        ({"negatives": NONE}, "multi_vae", "rank-all", 200, "impression"),
        ({"summary": {"splits": {"test": {"clicks": 0}}}}, "recommended", "train", 5, "popularity"),
    ],
    ids=[
        "plain",
        "many",
        "few",
        "shown",
        "no fields",
        "Chinese",
        "random split",
        "nothing to test",
    ],
)
def test_data_alone_is_enough(
    load: Load, entries: dict[str, Any], model: str, exp: str, epochs: int, strategy: str
) -> None:
    config, told = load(**entries)
    assert (config.model.name, config.exp.name) == (model, exp)
    assert f"--model {model} --exp {exp}" in told
    assert config.exp.train.epochs == epochs
    assert config.exp.train.negatives.strategy == strategy


def test_recommended_stays_what_was_typed_and_says_what_knows_the_language(load: Load) -> None:
    words = ("--model", "recommended", "--exp", "tt")
    config, told = load(*words, **CHINESE)
    assert config.model.name == "recommended"
    assert "MiniLM does not know the language of the texts: --model recommended_words" in told
    assert load(*words, fields="[]")[0].model.name == "recommended_ids"  # it cannot be another
    config, told = load(*words, "--llm_ver", "smollm2", **CHINESE)
    assert (config.model.name, told) == ("recommended", "")


def test_what_is_typed_wins(load: Load) -> None:
    few = {"summary": clicks(5_000), "negatives": SHOWN}
    words = ("--exp.train.epochs", "3", "--exp.train.negatives.strategy", "uniform")
    train = load(*words, **few)[0].exp.train
    assert (train.epochs, train.negatives.strategy) == (3, "uniform")
    assert load("--model", "naml", "--exp", "tt", **few)[0].exp.train.epochs == 50  # of the YAML


def test_where_all_items_are_ranked_it_is_trained_against_all(load: Load) -> None:
    words = ("--model", "recommended", "--exp", "sequential")
    config, told = load(*words)
    train = config.exp.train
    assert (train.loss, train.epochs, train.patience) == ("full_softmax", 60, 5)
    assert "loss full_softmax, because all items are ranked" in told
    assert load(*words, "--exp.train.loss", "softmax")[0].exp.train.loss == "softmax"
    shown = load(*words, "--exp.evaluate.ranking", "shown")[0].exp.train
    assert (shown.loss, shown.epochs) == ("softmax", 4)
