"""Measuring a run in other ways: nothing is trained again, and every way is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.modes.main import run
from legos.workplace.workplace import Workplace
from tests.modes.tiny_config import tiny_config
from tests.tiny import add_split, tiny_tables

QUICK: dict[str, Any] = {"train": {"epochs": 1}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with a second test split, ``later``, the valid one under another name."""
    folder = tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")
    add_split(folder, "later")
    return folder


@pytest.fixture(scope="module")
def trained(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs folder with one finished run."""
    runs = tmp_path_factory.mktemp("runs")
    run(tiny_config(tables, runs, baselines=["random"], **QUICK))
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def weights(runs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}


def folder_of(runs: Path, results: dict[str, Any]) -> Path:
    return runs / "tiny" / "naml" / str(results["run"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"evaluate": {"metrics": ["MRR", "HR@2"]}},
        {"evaluate": {"cold_warm": False}},
        {"data": {"splits": {"test": ["later"]}}},
        {"baselines": ["random", "popularity"]},
    ],
    ids=str,
)
def test_another_way_of_measuring_trains_nothing(
    tables: Path, runs: Path, change: dict[str, Any]
) -> None:
    before, (old,) = weights(runs), runs.rglob("results.json")
    known = json.loads(old.read_text())
    found = run(tiny_config(tables, runs, **{"baselines": ["random"], **QUICK, **change}))
    assert weights(runs) == before
    assert found["run"] == known["run"]
    assert found["training"] == known["training"]
    assert json.loads(old.read_text()) == found


@pytest.mark.slow
def test_every_measurement_is_kept_and_the_one_asked_for_is_shown(
    tables: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tiny_config(tables, runs, baselines=["random"], **QUICK))
    other = {"evaluate": {"metrics": ["HR@2"]}, "baselines": ["random"], "report": True}
    found = run(tiny_config(tables, runs, **{**QUICK, **other}))
    assert "HR@2" in found["splits"]["test"]["rows"]["all"]
    assert "nDCG@5" not in found["splits"]["test"]["rows"]["all"]
    assert set(found["measurements"]) == {first["measurement"], found["measurement"]}
    assert found["measurements"][found["measurement"]]["settings"]["exp.evaluate.metrics"] == [
        "HR@2"
    ]
    report = folder_of(runs, found) / "report.html"
    assert "HR@2" in report.read_text()
    for result in (first, found):
        folder = folder_of(runs, found) / "diagnostics" / result["measurement"] / "test"
        names = {path.stem for path in folder.glob("groups-*.npy")}
        assert ("groups-HR@2" in names) == (result is found)
    monkeypatch.setattr(Workplace, "open", None)  # nothing is computed
    again = run(tiny_config(tables, runs, baselines=["random"], report=True, **QUICK))
    assert again["splits"] == first["splits"]
    assert again["measurement"] == first["measurement"]
    assert "nDCG@5" in report.read_text()
    assert "HR@2" not in report.read_text()


@pytest.mark.slow
def test_a_split_that_is_added_leaves_the_others_as_they_were(tables: Path, runs: Path) -> None:
    data = {"splits": {"test": ["test", "later"]}}
    first = run(tiny_config(tables, runs, baselines=["random"], **QUICK))
    both = run(tiny_config(tables, runs, baselines=["random"], data=data, **QUICK))
    assert both["splits"]["test"] == first["splits"]["test"]
    assert list(both["splits"]) == ["test", "later"]
    data = {"splits": {"test": ["later"]}}
    later = run(tiny_config(tables, runs, baselines=["random"], data=data, **QUICK))
    assert later["splits"] == {"later": both["splits"]["later"]}


@pytest.mark.slow
def test_a_comparison_with_other_metrics_trains_nothing(tables: Path, runs: Path) -> None:
    compared = {"models": [{**tiny_config(tables, runs).model.model_dump()}], "seeds": [1]}
    before = weights(runs)
    summary = run(
        tiny_config(
            tables, runs, mode="compare", compare=compared, evaluate={"metrics": ["HR@2"]}, **QUICK
        )
    )
    assert weights(runs) == before
    assert np.isfinite(summary["rows"]["test"][0]["metrics"]["HR@2"])
