"""Candidates from FAISS: the same lists and scores, and nothing excluded comes back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import legos
from legos.recommend.approximate import use_index
from legos.recommend.run import TrainedRun

pytest.importorskip("faiss", reason="needs FAISS: pip install -r requirements-faiss.txt")


@pytest.fixture(scope="module")
def indexed(trained: Path) -> TrainedRun:
    run = legos.open(trained, device="cpu")
    found = use_index(run)
    assert found.recall >= 0.99
    assert found.sample == len(run.users)
    return run


def test_lists_are_the_exact_ones(opened: TrainedRun, indexed: TrainedRun) -> None:
    readers = [*opened.users, opened.items["item_id"].tolist()[:3]]
    for excluded in (True, False):
        exact = opened.recommend_many(readers, 7, exclude_seen=excluded)
        found = indexed.recommend_many(readers, 7, exclude_seen=excluded)
        for one, other in zip(exact, found, strict=True):
            pd.testing.assert_frame_equal(one, other, rtol=1e-5)


def test_a_reader_whose_cells_are_empty_gets_the_exact_list(
    opened: TrainedRun, indexed: TrainedRun
) -> None:
    indexed.catalogue.model.index.nprobe = 1  # type: ignore[attr-defined]
    had = opened.items["item_id"].tolist()[:-4]
    exact, found = (run.recommend(history=had, k=10) for run in (opened, indexed))
    assert len(exact) == 4
    pd.testing.assert_frame_equal(exact, found, rtol=1e-5)


def test_new_items_are_found_beside_the_index(trained: Path) -> None:
    exact, indexed = (legos.open(trained, device="cpu") for _ in range(2))
    use_index(indexed)
    new = pd.DataFrame(
        {
            "item_id": ["n1", "n2"],
            "title": ["sports1 sports2", "music1"],
            "category": ["sports", ""],
        }
    )
    for run in (exact, indexed):
        run.add_items(new)
    for one, other in zip(
        exact.recommend_many(exact.users, 30), indexed.recommend_many(exact.users, 30), strict=True
    ):
        pd.testing.assert_frame_equal(one, other, rtol=1e-5)
    assert "n1" in set(pd.concat(indexed.recommend_many(indexed.users, 30))["item_id"])
