"""RecSysLLM recommends what its test finds, takes new titles, rates, explains, writes headlines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from legos.errors import ConfigError, DataError
from legos.recommend.readers import Reader
from legos.recommend.run import TrainedRun
from legos.systems.recsysllm.recommend import RecsysllmRecommender
from tests.recommend.lists import assert_same_lists

pytestmark = pytest.mark.slow  # a training of seconds


@pytest.fixture(name="opened")
def _opened(recsysllm: TrainedRun) -> TrainedRun:
    return recsysllm


def recommender(opened: TrainedRun) -> RecsysllmRecommender:
    found = opened.catalogue.model
    assert isinstance(found, RecsysllmRecommender)
    return found


def test_a_list_is_that_of_the_test(opened: TrainedRun) -> None:
    model = recommender(opened)
    sequences = model.world.families.sequences
    rows = torch.arange(len(sequences))
    past = sequences.seen("test")
    best, _ = model._measure.next_items(model.template, rows, "test", past, count=10)
    users = [opened.users[user] for user in sequences.users.tolist()]
    found = opened.recommend_many([Reader(user, before="test") for user in users], 10)
    assert_same_lists(found, best.items.numpy(), opened.catalogue.ids, atol=1e-4)


def test_scores_of_items_are_those_of_the_beams(opened: TrainedRun) -> None:
    found = opened.recommend("u7", k=10)
    scores = opened.score(["u7"], found["item_id"].tolist()).loc["u7"]
    assert np.allclose(scores, found["score"], atol=1e-3)
    assert len(opened.recommend("u7", k=49, exclude_seen=False)) == 49


def test_a_list_says_which_of_its_ranks_are_proven(
    opened: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened.recommend("u7", k=10)
    assert found["proven"].tolist() == [True] * 10
    measure = recommender(opened)._measure
    for own, proven in (({"search": "beams"}, [False] * 10), ({"most_read": 1}, None)):
        monkeypatch.setattr(measure, "_own", measure._own.model_copy(update=own))
        other = opened.recommend("u7", k=10)
        assert proven in (None, other["proven"].tolist())
        sure = other["proven"].to_numpy()
        assert other["item_id"][sure].tolist() == found["item_id"][sure].tolist()


def test_somebody_new_is_asked_about_by_a_name_that_nobody_had(opened: TrainedRun) -> None:
    model = recommender(opened)
    listed = opened.recommend(history=["i1", "i2"], k=5)
    assert len(listed) == 5
    assert not {"i1", "i2"} & set(listed["item_id"])
    assert model.catalogue.users[-1] == f"user_{len(opened.users)}"
    reasons = opened.reasons(listed["item_id"][0], history=["i1", "i2"])
    assert reasons["share"].abs().sum() == pytest.approx(1.0)


def test_new_titles_are_names_that_can_be_written(opened: TrainedRun) -> None:
    other = TrainedRun(opened.folder, opened.config, opened.tables, opened._load)
    title = "Thing number 3, deluxe"  # that of another item
    long = "Thing number 9, deluxe " + "strap " * 40
    frame = pd.DataFrame({"item_id": ["x", "y"], "title": [title, long], "brand": ["Acme", ""]})
    other.add_items(frame)
    model = recommender(other)
    assert model.world.families.catalogue.items[-2:][0] == f"{title} (2)"
    assert model.world.pool.longest("item") == recommender(opened).world.pool.longest("item")
    listed = other.recommend("u7", k=60, exclude_seen=False)["item_id"].tolist()
    assert {"x", "y"} <= set(listed)
    assert len(opened.items) == 50
    with pytest.raises(DataError, match="title"):
        other.add_items(pd.DataFrame({"item_id": ["z"], "title": [""]}))


def test_it_rates_explains_and_writes_headlines(opened: TrainedRun) -> None:
    stars = opened.rate("u7", "i9")
    assert 1 <= stars <= 5
    assert stars == opened.rate("u7", "i9")
    assert isinstance(opened.explain("u7", "i9"), str)
    assert 1 <= opened.rate(None, "i9") <= 5  # somebody new
    assert isinstance(opened.explain(None, "i9"), str)
    assert opened.headline("I got it. The strap is great!") == opened.headline(
        "I got it. The strap is great!"
    )
    model = recommender(opened)
    asked = {
        family: model._asking(family, answer, frozenset({"user", "user_name", slot})).name
        for family, answer, slot in (
            ("rating", "stars", "item"),
            ("explanation", "explanation", "item"),
            ("review", "headline", "body"),
        )
    }
    assert asked == {"rating": "rating-7", "explanation": "explanation-4", "review": "review-3"}


def test_what_it_cannot_do_says_so_in_one_line(opened: TrainedRun) -> None:
    for ask, kind, message in (
        (lambda: opened.similar("i1"), ConfigError, "no item vectors"),
        (lambda: opened.user_vectors(), ConfigError, "no user vectors"),
        (lambda: opened.score([[]], ["i1"]), ConfigError, "without history"),
        (lambda: opened.session("u1"), ConfigError, "reads the whole history each time"),
        (lambda: opened.rate("u99", "i1"), DataError, "no user 'u99'"),
        (lambda: opened.headline(" "), DataError, "is empty"),
    ):
        with pytest.raises(kind, match=message) as found:
            ask()
        assert "\n" not in str(found.value)
