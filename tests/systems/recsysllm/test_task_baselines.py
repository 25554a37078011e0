"""Means of ratings and frequent phrases, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from legos.errors import DataError
from legos.systems.recsysllm.baselines import Ratings, frequent_phrases, mean_ratings


def test_means_by_hand() -> None:
    users, items = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    train = Ratings(users, items, torch.tensor([5.0, 3.0, 1.0]))
    asked = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 2])
    # the mean is 3; after users' means 4 and 1 item 1 is off by (-1 + 0) / 2; 0.5 is clipped to 1
    found = mean_ratings(train, asked, num_users=3, num_items=3, shrink=0)
    assert found.tolist() == [3.5, 1, 3]
    # users are off by (2 + 0) / 4 and -2 / 3, item 1 then by (-0.5 - 4 / 3) / 4
    shrunk = mean_ratings(train, asked, num_users=3, num_items=3, shrink=2)
    item = (-0.5 - 4 / 3) / 4
    assert shrunk.tolist() == pytest.approx([3.5 + item, 3 - 2 / 3 + item, 3])
    unknown = train._replace(stars=torch.full((3,), math.nan))
    with pytest.raises(DataError, match="expected known ones"):
        mean_ratings(unknown, asked, num_users=3, num_items=3, shrink=0)


def test_the_most_frequent_phrase_of_an_item_or_of_all() -> None:
    items, asked = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2])
    phrases = ["good", "fine", "fine", "good", "good"]
    assert frequent_phrases(items, phrases, asked) == ["fine", "good", "good"]
    with pytest.raises(DataError, match="expected some text"):
        frequent_phrases(items, [""] * 5, asked)
