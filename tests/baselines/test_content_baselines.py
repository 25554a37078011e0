"""Baselines of texts and times: BM25, EASE with texts, recent popularity."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from legos.baselines.bm25 import BM25, BM25Config
from legos.baselines.ease_texts import EASETexts, EASETextsConfig
from legos.baselines.recent_popularity import RecentPopularity, RecentPopularityConfig
from legos.data.ragged import from_lengths
from legos.errors import DataError, OutOfMemory
from tests.baselines.fitting import as_shares, fitted_to, some_reads

TEXTS = ["Red red wine", "white wine, dry", "Red shoes", "", "dry dry dry season of red wine"] * 5


def of_texts(texts: list[str]) -> Any:
    return SimpleNamespace(
        folder="shop", text_fields=["title"] if texts else [], joined_texts=lambda fields: texts
    )


@pytest.mark.parametrize(("common", "dense"), [(0.0, 2**26), (0.5, 2**26), (1.0, 2**26), (0.0, 60)])
def test_bm25_is_its_formula(common: float, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum over the words of every text of the history, repetitions included, in float64.

    However many words are common, or fit the matrix of common ones (60 numbers: two words).
    """
    monkeypatch.setattr("legos.baselines.bm25._COMMON", common)
    monkeypatch.setattr("legos.baselines.bm25._DENSE", dense)
    words = [re.findall(r"\w+", text.lower()) for text in TEXTS]
    mean = np.mean([len(each) for each in words])
    similar = np.zeros((25, 25))
    for query in range(25):
        for item in range(25):
            for word in words[query]:
                having = sum(word in each for each in words)
                times = words[item].count(word)
                length = 0.4 + 0.6 * len(words[item]) / mean
                similar[query, item] += (
                    math.log(1 + (25 - having + 0.5) / (having + 0.5))
                    * times * 2.5 / (times + 1.5 * length)
                )  # fmt: skip
    histories = some_reads(1)
    data = fitted_to(some_reads(0), tables=of_texts(TEXTS))
    found = BM25(BM25Config(k1=1.5, b=0.6)).fit(data)(as_shares(histories))
    assert np.allclose(found, as_shares(histories).toarray() @ similar, rtol=1e-4, atol=1e-5)


def test_items_without_texts_are_refused() -> None:
    with pytest.raises(DataError, match="shop: the items have no text field to compare"):
        BM25(BM25Config()).fit(fitted_to(some_reads(), tables=of_texts([])))


@pytest.mark.parametrize("words", [False, True])
def test_ease_with_texts_is_a_regression_on_reads_and_texts_together(words: bool) -> None:
    """Of each item on all others, unread ones included, of X over the scaled texts."""
    reads, histories = some_reads(1), some_reads(2)
    vectors = np.random.default_rng(0).normal(size=(25, 6)).astype(np.float32)
    own: Any = sparse.csr_matrix(vectors) if words else vectors
    method = EASETexts(EASETextsConfig(l2=3.0, text_weight=2.0))
    found = method.fit(fitted_to(reads, own_vectors=own))(as_shares(histories))
    stacked = np.concatenate([reads, np.sqrt(2.0) * vectors.T.astype(np.float64)])
    weights = np.zeros((25, 25))
    for item in range(25):
        others = [each for each in range(25) if each != item]
        x = stacked[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + 3 * np.eye(24), x.T @ stacked[:, item])
    assert np.allclose(found, histories @ weights, atol=1e-4)
    assert np.abs(found[:, 5]).max() > 0.01  # nobody read it


def test_ease_with_texts_names_what_needs_less_memory() -> None:
    with pytest.raises(OutOfMemory, match=r"baseline \{name: ease, neighbours: 100\} instead"):
        EASETexts(EASETextsConfig(max_gib=1e-7)).fit(fitted_to(some_reads()))


def test_a_click_counts_half_after_a_half_life() -> None:
    """Clicks on 0 and 1 at day 0, 1 at day 10, 2 at day 20, and one whose time is unknown."""
    columns: dict[str, list[Any]] = {
        "candidates": [[0, 3], [1], [1], [2], [0]],
        "labels": [[1, 0], [1], [1], [1], [1]],
        "time": [0, 0, 864_000, 1_728_000, -1],
    }
    tables: Any = SimpleNamespace(
        num_items=4,
        lists=lambda split, name: from_lengths(
            torch.tensor([each for row in columns[name] for each in row]),
            torch.tensor([2, 1, 1, 1, 1]),
        ),
        scalar=lambda split, name: torch.tensor(columns[name]),
    )
    method = RecentPopularity(RecentPopularityConfig(half_life=10.0))
    data = fitted_to(np.zeros((2, 4)), tables=tables, train="train")
    assert np.allclose(method.fit(data)(as_shares(np.zeros((2, 4)))), [[0.25, 0.75, 1, 0]] * 2)
