"""Splits that cannot be trained on or measured are refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.errors import LegosError
from legos.modes.main import run
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import add_split, tiny_tables

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def unlabelled(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.full_like(labels, -1)


def one_unlabelled(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.where(np.arange(labels.size) == 0, -1, labels).astype(labels.dtype)


def no_click(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.zeros_like(labels)


def clicks_alone(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.ones_like(labels)


def one_class_each(labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """All candidates of every other impression are clicked, none of the rest."""
    return np.repeat(np.arange(len(offsets) - 1) % 2, np.diff(offsets)).astype(labels.dtype)


def with_labels(folder: Path, split: str, change: Change) -> Path:
    tiny_tables(folder)
    columns = folder / "columns" / split
    offsets = np.load(columns / "labels.offsets.npy")
    labels = np.load(columns / "labels.values.npy")
    np.save(columns / "labels.values.npy", change(labels, offsets))
    return folder


CASES: list[tuple[str, Change, dict[str, Any], str]] = [
    ("test", unlabelled, {}, "data.splits.test.0: split 'test' has no labels and cannot be meas"),
    ("test", one_unlabelled, {}, "split 'test' has 1 rows without labels"),
    ("test", no_click, {}, "split 'test' has no click among its"),
    ("test", one_class_each, {}, "split 'test' .* in the same impression, so GAUC is not defined"),
    ("test", clicks_alone, {"evaluate": {"metrics": ["AUC"]}}, "in the whole split, so AUC is not"),
    ("valid", unlabelled, {}, "data.splits.valid: split 'valid' has no labels"),
    ("valid", one_class_each, {}, "split 'valid' .* so GAUC is not defined"),
    ("train", no_click, {}, "data.splits.train: split 'train' has no click among its"),
    ("train", unlabelled, {}, "data.splits.train: split 'train' has no labels"),
]


@pytest.mark.parametrize(("split", "change", "exp", "message"), CASES)
def test_a_split_is_refused_by_name_before_anything_is_written(
    tmp_path: Path, split: str, change: Change, exp: dict[str, Any], message: str
) -> None:
    tables = with_labels(tmp_path / "tables", split, change)
    with pytest.raises(LegosError, match=message):
        run(tiny_config(tables, tmp_path / "runs", **exp))
    assert not list((tmp_path / "runs").rglob("config.json"))


def test_all_splits_are_told_at_once(tmp_path: Path) -> None:
    tables = with_labels(tmp_path / "tables", "test", unlabelled)
    data = {"splits": {"valid": "vaild"}}
    with pytest.raises(LegosError, match=r"(?s)'vaild' does not exist; did.*'test' has no"):
        run(tiny_config(tables, tmp_path / "runs", data=data))


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    tables = tiny_tables(tmp_path / "tables")
    add_split(tables, "empty", empty=True)
    with pytest.raises(LegosError, match="split 'empty' is empty"):
        run(tiny_config(tables, tmp_path / "runs", data={"splits": {"test": ["empty"]}}))


def test_metrics_that_need_no_other_candidate_are_measured_on_clicks_alone(tmp_path: Path) -> None:
    tables = with_labels(tmp_path / "tables", "test", clicks_alone)
    exp = {"train": {"epochs": 1}, "evaluate": {"metrics": ["MRR"]}}
    assert run(tiny_config(tables, tmp_path / "runs", **exp))["splits"]["test"]


def test_a_run_that_only_trains_needs_no_test_split(tmp_path: Path) -> None:
    tables = with_labels(tmp_path / "tables", "test", unlabelled)
    run(tiny_config(tables, tmp_path / "runs", mode="train", train={"epochs": 1}))


def test_a_comparison_looks_at_all_rows_before_the_first_starts(tmp_path: Path) -> None:
    tables = with_labels(tmp_path / "tables", "test", unlabelled)
    exp = {"mode": "compare", "compare": {"models": [NAML], "seeds": [1]}}
    with pytest.raises(LegosError, match="split 'test' has no labels"):
        run(tiny_config(tables, tmp_path / "runs", **exp))
    assert not (tmp_path / "runs").exists()
