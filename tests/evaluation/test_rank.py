"""Places among all items: against sorted score matrices, with exclusions, in pages of any size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.baselines.base import make_baseline
from legos.baselines.data import BaselineData
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.evaluation import rank as ranking_module
from legos.evaluation.baselines import rank_by_baseline
from legos.evaluation.rank import Exclude, Ranking, rank, what_to_rank
from legos.predictor.din import DINConfig
from legos.predictor.dot import DotConfig
from legos.predictor.interests import InterestsConfig
from legos.predictor.mlp import MLPConfig
from legos.recommender import Recommender
from legos.registry import PredictorConfig, UserEncoderConfig, bricks
from legos.systems.bricks import catalogue as rank_models
from legos.systems.bricks.catalogue import rank_by_model
from legos.systems.bricks.score import score_split
from legos.user.poly_attention import PolyAttentionConfig
from legos.user.pooling import PoolingConfig
from legos.user.sequence import SequenceConfig
from legos.user.user_id import UserIDConfig
from tests.bricks import (
    NUM_ITEMS,
    NUM_USERS,
    lists,
    ragged,
    random_interactions,
    random_profiles,
    random_recommender,
    random_store,
)
from tests.tiny import tiny_tables


class Histories:
    """Of ``Tables`` what a ranking asks for."""

    num_items, num_users = NUM_ITEMS, NUM_USERS

    def __init__(self, data: Interactions, offered: Tensor) -> None:
        self.offered, self._histories = offered, data.histories

    def lists(self, table: str, column: str) -> Ragged:
        assert (table, column) == ("histories", "items")
        return self._histories


def split() -> Interactions:
    """30 impressions; every third has two clicks more, every fifth none."""
    data = random_interactions()
    labels = data.labels.clone()
    for row, begin in enumerate(data.candidates.offsets[:-1].tolist()):
        if row % 3 == 0:
            labels[begin : begin + 3] = 1
        if row % 5 == 0:
            labels[begin : int(data.candidates.offsets[row + 1])] = 0
    return replace(data, labels=labels, split="test")


def asked(
    data: Interactions, exclude: Exclude = "history", valid: Interactions | None = None
) -> Ranking:
    offered = torch.arange(NUM_ITEMS) % 11 > 0
    offered[data.candidates.values] = True
    offered[[0, 11]] = False
    clicked = torch.isin(data.candidates.values, torch.tensor([0, 11]))
    data = replace(data, labels=data.labels.where(~clicked, 0))
    tables = cast(Tables, Histories(data, offered))
    return what_to_rank(tables, data, exclude=exclude, valid=valid)


def brute(ranking: Ranking, scores: Tensor, impression: int) -> dict[str, Any]:
    """One impression's list by sorting it: items, their scores, its clicks."""
    state = int(ranking.owner[impression])
    excluded = set(lists(ranking.excluded)[state])
    items = [i for i in range(NUM_ITEMS) if ranking.offered[i] and i not in excluded]
    ordered = sorted(items, key=lambda i: -float(scores[state, i]))
    return {
        "items": ordered,
        "scores": [float(scores[state, i]) for i in ordered],
        "targets": lists(ranking.targets)[impression],
    }


@pytest.mark.parametrize("page_size", [1, 4, 512])
@pytest.mark.parametrize(("numbers", "block"), [(1, 2), (100, 5), (2**23, 128)])
def test_places_and_lists_are_those_of_a_full_sort(
    page_size: int, numbers: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers tie often; pages and blocks of any size count and list the same."""
    for name in ("_NUMBERS_CPU", "_MOST_CPU"):
        monkeypatch.setattr(ranking_module, name, numbers)
    monkeypatch.setattr(ranking_module, "_BLOCK", block)
    ranking = asked(split())
    generator = torch.Generator().manual_seed(0)
    states = ranking.states.users.numel()
    scores = torch.randint(6, (states, NUM_ITEMS), generator=generator).float()
    found = rank(ranking, lambda page: scores[page], page_size=page_size, k=3)
    assert found.lists is not None
    seen = 0
    for impression in range(len(found.clicks)):
        expected = brute(ranking, scores, impression)
        assert found.sizes[impression] == len(expected["items"])
        assert found.clicks[impression] == len(expected["targets"])
        assert found.lists[impression].tolist() == expected["items"][:3]  # of equal ones the first
        state = int(ranking.owner[impression])
        clicked = [float(scores[state, i]) for i in expected["targets"]]
        for value in clicked:
            place = found.positives
            assert place.group[seen] == impression
            assert place.above[seen] == sum(s > value for s in expected["scores"])
            assert place.equal[seen] == sum(s == value for s in expected["scores"])
            assert place.positives_above[seen] == sum(s > value for s in clicked)
            assert place.positives_equal[seen] == sum(s == value for s in clicked)
            seen += 1
    assert seen == len(found.positives.group) > 20
    assert (found.clicks == 0).any()
    assert (found.clicks > 1).any()


def test_one_click_a_state_takes_the_short_way() -> None:
    data = random_interactions()
    ranking = asked(data, "nothing")
    scores = torch.randn(ranking.states.users.numel(), NUM_ITEMS)
    whole = rank(ranking, lambda page: scores[page].clone())
    rows = torch.arange(len(ranking.states.users))
    items = scores.argmax(1)
    single = replace(ranking, owner=rows, targets=Ragged(items, torch.arange(len(rows) + 1)))
    offered = scores.masked_fill(~ranking.offered, -torch.inf).max(1).values
    expected = (offered[:, None] > scores.max(1).values[:, None]).sum(1)
    single = replace(single, offered=torch.ones_like(ranking.offered))
    found = rank(single, lambda page: scores[page].clone())
    assert found.positives.above.tolist() == [0] * len(rows) == expected.tolist()
    assert found.positives.equal.tolist() == [1] * len(rows)
    assert len(whole.positives.group) == int(ranking.targets.values.numel())


def test_what_is_excluded() -> None:
    """State of user 1: history [1, 2], valid click 3; the test clicks are 2 (a repeat) and 4."""

    def one(split: str, clicks: list[int]) -> Interactions:
        data = random_interactions(num_impressions=1)
        return replace(
            data, split=split, users=torch.tensor([1]), history_rows=torch.tensor([1]),
            histories=ragged([[], [1, 2]]), candidates=ragged([[*clicks, 9]]),
            labels=torch.tensor([1] * len(clicks) + [0], dtype=torch.int8),
        )  # fmt: skip

    test, valid = one("test", [2, 4, 4]), one("valid", [3])
    excluded = {
        exclude: (lists(found.excluded), lists(found.targets), found.unlisted)
        for exclude in cast(list[Exclude], ["history", "history+valid", "nothing"])
        for found in [asked(test, exclude, valid)]
    }
    assert excluded["history"] == ([[1, 2]], [[4]], 1)
    assert excluded["history+valid"] == ([[1, 2, 3]], [[4]], 1)
    assert excluded["nothing"] == ([[]], [[2, 4]], 0)
    kept = asked(valid, "history+valid", valid)  # valid's own clicks are not left out of valid
    assert (lists(kept.excluded), lists(kept.targets)) == ([[1, 2]], [[3]])


def test_broken_scores_and_missing_labels_are_refused() -> None:
    data = split()
    ranking = asked(data)

    def scores(page: Tensor) -> Tensor:
        values = torch.zeros(len(page), NUM_ITEMS)
        values[:, 0] = torch.nan  # nobody is offered item 0
        values[0, 5] = torch.inf if int(page[0]) == 0 else 0.0
        return values

    with pytest.raises(DataError, match=r"1 scores .* not finite"):
        rank(ranking, scores)
    with pytest.raises(DataError, match="'test' has no labels"):
        asked(replace(data, labels=data.labels - 1))


MODELS: dict[str, tuple[UserEncoderConfig, PredictorConfig]] = {
    "dot": (PoolingConfig(), DotConfig()),
    "users": (UserIDConfig(), DotConfig()),
    "mlp": (PoolingConfig(), MLPConfig()),
    "interests": (PolyAttentionConfig(), InterestsConfig()),
    "din": (SequenceConfig(), DINConfig()),
    "category": (PolyAttentionConfig(category_bias="category"), InterestsConfig()),
}


@pytest.mark.parametrize("numbers", [500, 2**23])
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_scores_all_items_as_candidates(
    name: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An impression that shows every item gets the same scores by the way of shown candidates."""
    monkeypatch.setattr(rank_models, "MOST_NUMBERS", numbers)
    user, predictor = MODELS[name]
    store, data = random_store(), random_interactions(num_impressions=6)
    model = random_recommender(store, user=user, predictor=predictor).eval()
    everything = replace(
        data,
        candidates=ragged([list(range(NUM_ITEMS))] * 6),
        labels=torch.zeros(6 * NUM_ITEMS, dtype=torch.int8),
    )
    profiles = random_profiles()
    expected = score_split(model, store, everything, profiles=profiles).scores.view(6, NUM_ITEMS)
    ranking = replace(asked(data, "nothing"), offered=torch.ones(NUM_ITEMS, dtype=torch.bool))
    seen: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(rank_models, "rank", lambda _, score, **__: _collect(score, ranking, seen))
    rank_by_model(model, store, data, ranking, profiles=profiles, page_size=3)
    found = torch.cat([scores for _, scores in seen])[ranking.owner]
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)


def _collect(score: Any, ranking: Ranking, seen: list[tuple[Tensor, Tensor]]) -> Any:
    for page in torch.arange(ranking.states.users.numel()).split(3):
        seen.append((page, score(page).clone()))  # the next page is written over it
    return rank(ranking, lambda page: torch.zeros(len(page), NUM_ITEMS))


def test_a_model_in_training_stays_in_training() -> None:
    store, data = random_store(), split()
    model: Recommender = random_recommender(store, user=PoolingConfig()).train()
    found = rank_by_model(model, store, data, asked(data), page_size=5, k=2)
    assert model.training
    assert found.item_vectors is not None
    assert found.item_vectors.shape[0] == NUM_ITEMS


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables.load(tiny_tables(tmp_path_factory.mktemp("tiny") / "tables"))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in bricks("baseline").names()
        if not {"text_vectors", "oracle", "times"} & bricks("baseline").config(name).needs  # type: ignore[attr-defined]
    ],
)
def test_baselines_rank_as_their_scores_say(name: str, tables: Tables) -> None:
    """Their scores of the candidates that are shown are those of the ordinary way."""
    data = Interactions.from_tables(tables, "test", history_length=6)
    ranking = what_to_rank(tables, data)
    catalogue = tables.offered.numpy()
    reading = BaselineData(tables, "test", history_length=6, catalogue=catalogue)
    baseline = make_baseline(name)
    first = rank_by_baseline(baseline, reading, ranking, page_size=7, k=5)
    again = rank_by_baseline(baseline, reading, ranking, page_size=512, k=5)
    assert np.array_equal(first.positives.above, again.positives.above)
    assert np.array_equal(first.sizes, again.sizes)
    if name == "random":
        middle = (first.positives.above / first.sizes[first.positives.group]).mean()
        assert 0.4 < middle < 0.6
        return
    shown = baseline.pair_scores(BaselineData(tables, "test", history_length=6))
    pages = baseline.page_scores(reading)(np.arange(len(reading.states)))
    column = np.searchsorted(reading.items, reading.candidates)
    assert np.allclose(pages[reading.state_of[reading.impressions], column], shown)


def test_the_oracle_ranks_no_items_it_has_not_shown(tables: Tables) -> None:
    data = Interactions.from_tables(tables, "test", history_length=6)
    reading = BaselineData(tables, "test", catalogue=tables.offered.numpy())
    with pytest.raises(ConfigError, match="no baseline 'oracle' over all items"):
        rank_by_baseline(make_baseline("oracle"), reading, what_to_rank(tables, data))
