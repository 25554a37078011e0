"""Baselines by name and by settings: what YAMLs may say, what results call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legos.baselines.base import baseline_title
from legos.config.load import load_run_config
from legos.errors import ConfigError
from legos.modes.main import run
from legos.registry import read_baseline
from tests.modes.tiny_config import POOLING, tiny_config
from tests.tiny import tiny_tables


def refused(baselines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run_config(["--data", "newsroom", "--model", "naml", "--exp.baselines", baselines])
    return str(caught.value)


def test_labels_say_what_is_not_as_by_default() -> None:
    labels = {
        "ease": "ease",
        "{name: ease, l2: 300.0}": "ease",
        "{name: ease, l2: 20.5, max_gib: 1.0}": "ease,l2=20.5",
        "{name: item_knn, k: 5, similarity: bm25}": "item_knn,similarity=bm25,k=5",
    }
    words = ["--data", "newsroom", "--model", "naml", "--exp", "tt"]
    given = f"[{', '.join(labels)}]"
    config = load_run_config([*words, "--exp.baselines", given])
    assert [each.label for each in config.exp.baselines] == list(labels.values())
    saved = config.exp.model_dump(mode="json")["baselines"]
    assert saved[0] == "ease"
    assert [read_baseline(each) for each in saved] == list(config.exp.baselines)


def test_titles() -> None:
    assert baseline_title("ease") == "EASE"
    assert baseline_title("ease,l2=20.5,neighbours=7") == "EASE (l2=20.5, neighbours=7)"
    assert baseline_title("ease,l2=160.2948984699853") == "EASE (l2=160.3)"
    assert baseline_title("item_knn,similarity=tfidf,k=200") == (
        "item-kNN (similarity=tfidf, k=200)"
    )
    assert baseline_title("of_a_later_version") == "of_a_later_version"


def test_mistakes_are_named_with_their_place() -> None:
    assert "exp.baselines.1: unknown baseline 'eas'; did you mean 'ease'" in refused(
        "[popularity, eas]"
    )
    assert "exp.baselines.0.l3: unknown key (value 3); did you mean 'l2'" in refused(
        "[{name: ease, l3: 3}]"
    )
    assert "exp.baselines.0.l2" in refused("[{name: ease, l2: -3.0}]")
    assert "exp.baselines.0.name: missing" in refused("[{l2: 3.0}]")


@pytest.mark.slow
@pytest.mark.parametrize("ranking", ["shown", "all"])
def test_a_table_has_one_baseline_twice_and_measures_nothing_again(
    ranking: str, tmp_path: Path
) -> None:
    tables = tiny_tables(tmp_path / "tables")
    exp: dict[str, Any] = {
        "train": {"epochs": 1, "metric": "nDCG@5"},
        "evaluate": {"ranking": ranking, "metrics": ["nDCG@5"]},
        "report": True,
    }
    both: list[Any] = ["ease", {"name": "ease", "l2": 2.0, "neighbours": 5}]
    first = run(tiny_config(tables, tmp_path, model=POOLING, baselines=both, **exp))
    found = first["baselines"]["test"]
    assert list(found) == ["ease", "ease,l2=2.0,neighbours=5"]
    again = run(tiny_config(tables, tmp_path, model=POOLING, baselines=both[:1], **exp))
    assert again["baselines"]["test"] == {"ease": found["ease"]}
    (report,) = tmp_path.glob("tiny/pooling/*/report.html")
    assert "EASE" in report.read_text()
