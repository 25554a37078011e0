"""Candidates from FAISS: the same lists and scores, and nothing excluded comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import legos
from legos.data.ragged import from_rows
from legos.evaluation.rank import NO_ITEM
from legos.recommend.approximate import Approximate, use_index
from legos.recommend.run import TrainedRun
from legos.systems.protocol import Readers
from legos.systems.recommending import ByScores

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


class Products(ByScores):
    """Items on a few hundred hills, readers at some of them; every tenth item is not offered."""

    similarity = "dot"

    def __init__(self) -> None:
        torch.manual_seed(0)
        hills = torch.randn(200, 16)
        self.items = hills.repeat(30, 1) + 0.2 * torch.randn(6_000, 16)
        self.readers = self.items[::300] + 0.1
        super().__init__(torch.arange(6_000) % 10 > 0, torch.device("cpu"))

    def item_vectors(self) -> Tensor:
        return self.items

    def reader_vectors(self, readers: Readers) -> Tensor:
        return self.readers[readers.users]

    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        return self.readers[readers.users] @ (self.items if items is None else self.items[items]).T


def test_a_few_cells_hold_nearly_all_of_the_best_and_nothing_excluded_comes_back() -> None:
    model = Products()
    approximate = Approximate.over(model)
    approximate.index.nprobe = 16
    assert approximate.index.nlist > 100
    users = torch.arange(20)
    readers = Readers(users, from_rows([np.zeros(0, np.int64)] * 20, "int64").tensors())
    plain = model.top(readers, 15, readers.histories)
    seen = from_rows([row[: 3 * user].numpy() for user, row in enumerate(plain.items)], "int64")
    exact, found = (each.top(readers, 10, seen.tensors()) for each in (model, approximate))
    shared = [
        len(set(one.tolist()) & set(other.tolist())) / max(1, int((one != NO_ITEM).sum()))
        for one, other in zip(exact.items, found.items, strict=True)
    ]
    assert np.mean(shared) >= 0.95
    assert not set(found.items.flatten().tolist()) & set(range(0, 6_000, 10))
    for user, row in enumerate(found.items.tolist()):
        assert not set(row) & set(seen.row(user).tolist())
        scores = model.scores(readers.part(torch.tensor([user])), torch.tensor(row))[0]
        torch.testing.assert_close(scores, found.scores[user])
