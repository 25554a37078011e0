"""Means of ratings and frequent phrases, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from legos.errors import DataError
from legos.systems.recsysllm.baselines import FrequentPhrase, RatingMeans


def test_means_by_hand() -> None:
    users, items = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    means = RatingMeans(users, items, torch.tensor([5.0, 3.0, 1.0]), num_users=3, num_items=3)
    asked = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 2])
    assert means.predict(*asked, "global").tolist() == [3, 3, 3]
    assert means.predict(*asked, "user").tolist() == [4, 1, 3]
    assert means.predict(*asked, "item").tolist() == [2, 2, 3]
    # after users' means 4 and 1 item 1 is off by (-1 + 0) / 2
    assert means.predict(*asked, "user+item").tolist() == [3.5, 1, 3]  # 0.5 is clipped to 1
    shrunk = RatingMeans(
        users, items, torch.tensor([5.0, 3.0, 1.0]), num_users=3, num_items=3, shrink=2
    )
    assert shrunk.predict(*asked, "user").tolist() == pytest.approx([3.5, 3 - 2 / 3, 3])
    with pytest.raises(DataError, match="expected known ones"):
        RatingMeans(users, items, torch.full((3,), math.nan), num_users=3, num_items=3)


def test_the_most_frequent_phrase_of_an_item_or_of_all() -> None:
    items = torch.tensor([0, 0, 0, 1, 1])
    phrase = FrequentPhrase(items, ["good", "fine", "fine", "good", "good"])
    asked = torch.tensor([0, 1, 2])
    assert phrase.predict(asked, by_item=True) == ["fine", "good", "good"]
    assert phrase.predict(asked, by_item=False) == ["good"] * 3
    with pytest.raises(DataError, match="expected some text"):
        FrequentPhrase(items, [""] * 5)
