"""TIGER as a model of the toolkit: both rankings, loading, recommending, new items, errors."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import legos
from legos.config.schema import RunConfig
from legos.errors import ConfigError, DataError
from legos.modes.main import run
from legos.recommend.readers import Reader
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables

MODEL: dict[str, Any] = {
    "system": "tiger", "name": "tiger", "width": 8, "layers": 1, "heads": 2, "head_width": 4,
    "feed_forward": 16, "users": 5, "codes": {"levels": 2, "size": 6},
}  # fmt: skip
LISTS = {"ranking": "all", "metrics": ["HR@5", "nDCG@5"]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(autouse=True)
def _words_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No language model reads the titles, which are no sentences."""
    monkeypatch.setattr("legos.evaluation.texts.minilm_knows", lambda columns: False)


def tiger(
    tables: Path, runs: Path, *, model: dict[str, Any] | None = None, **exp: Any
) -> RunConfig:
    train = {"metric": "nDCG@5", "epochs": 4, "lr": 0.02, **exp.pop("train", {})}
    return tiny_config(tables, runs, model={**MODEL, **(model or {})}, train=train, **exp)


def folder_of(runs: Path) -> Path:
    (found,) = (runs / "tiny" / "tiger").iterdir()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["causal", "both_ways"])
@pytest.mark.parametrize("ranking", ["shown", "all"])
def test_it_trains_measures_and_measures_the_same_once_loaded(
    tables: Path, tmp_path: Path, ranking: str, reads: str
) -> None:
    evaluate = {**LISTS, "ranking": ranking}
    own = {"reads": reads}
    found = run(tiger(tables, tmp_path / "a", model=own, evaluate=evaluate))
    row = found["splits"]["test"]["rows"]["all"]
    assert set(row) >= {"HR@5", "nDCG@5"}
    assert found["parameters"] > 0
    load = folder_of(tmp_path / "a")
    again = run(tiger(tables, tmp_path / "b", model=own, mode="test", load=load, evaluate=evaluate))
    assert again["splits"]["test"]["rows"]["all"] == row


@pytest.mark.slow
def test_it_learns_whose_taste_is_whose(tables: Path, tmp_path: Path) -> None:
    found = []
    for seed in (1, 2, 3):  # codes of so few words are good or bad by the draw of their centres
        train = {"epochs": 30, "metric": "GAUC", "seed": seed}
        results = run(tiger(tables, tmp_path, train=train, evaluate={"metrics": ["GAUC"]}))
        found.append(results["splits"]["test"]["rows"]["all"]["GAUC"])
    assert statistics.mean(found) > 0.6  # by chance 0.5


@pytest.mark.slow
def test_both_rankings_measure_the_same_lists(tables: Path, tmp_path: Path) -> None:
    """The place of a click among all items follows from scores and from lists."""
    run(tiger(tables, tmp_path, mode="train", evaluate=LISTS))
    opened = legos.open(folder_of(tmp_path), device="cpu")
    histories = [["N3", "N11"], ["N7"]]
    items = [f"N{number}" for number in range(60)]
    for history in histories:
        scores = opened.score([Reader(history=history)], items).to_numpy()[0]
        best = opened.recommend(history=history, k=7)
        left = [at for at in range(60) if f"N{at}" not in history]
        expected = sorted(left, key=lambda at: -scores[at])[:7]
        assert list(best["item_id"]) == [f"N{at}" for at in expected]


@pytest.mark.slow
def test_new_items_get_codes_where_a_language_model_reads_them(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiger(tables, tmp_path / "words", mode="train", evaluate=LISTS))
    frame = pd.DataFrame({"item_id": ["X1", "X2"], "title": ["sports1 sports2", "sports1 sports2"]})
    opened = legos.open(folder_of(tmp_path / "words"), device="cpu")
    with pytest.raises(ConfigError, match="of the words of its items"):
        opened.add_items(frame)

    monkeypatch.setattr("legos.evaluation.texts.minilm_knows", lambda columns: True)

    def vectors(texts: list[str], *_: Any, **__: Any) -> Any:
        words = [[text.count(word) for word in ("sports", "finance", "music")] for text in texts]
        return torch.tensor(words).float().numpy()

    monkeypatch.setattr("legos.lm.text_vectors.text_vectors", vectors)
    run(tiger(tables, tmp_path / "model", mode="train", evaluate=LISTS))
    opened = legos.open(folder_of(tmp_path / "model"), device="cpu")
    assert not {"X1", "X2"} & set(opened.recommend(history=["N4"], k=60)["item_id"])
    opened.add_items(frame)
    assert {"X1", "X2"} <= set(opened.recommend(history=["N4"], k=62)["item_id"])


@pytest.mark.parametrize("asked", [{"metrics": ["MRR"]}, {"metrics": ["GAUC", "HR@5"]}])
def test_metrics_that_lists_do_not_have_are_refused(
    tables: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"exp\.evaluate\.metrics: (MRR|GAUC)"):
        run(tiger(tables, tmp_path, evaluate={"ranking": "all", **asked}))


def test_items_without_texts_are_refused(tables: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("legos.data.tables.Tables.text_fields", [])
    with pytest.raises(DataError, match="no text field, of which model tiger makes codes"):
        run(tiger(tables, tmp_path, evaluate=LISTS))
