"""Scoring from caches: aligned by id, whatever is missing, as often as one likes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from legos.data.interactions import Interactions
from legos.item.attention import AttentionConfig
from legos.item.pooling import PoolingConfig
from legos.recommender import Recommender
from legos.systems.bricks.score import score_split, score_split_directly
from legos.user.profile import ProfileConfig
from legos.user.self_attention import SelfAttentionConfig
from tests.bricks import (
    interactions,
    needs_gpu,
    random_interactions,
    random_profiles,
    random_recommender,
    random_store,
)


@pytest.fixture
def model() -> Recommender:
    return random_recommender(random_store(), item=AttentionConfig(), user=SelfAttentionConfig())


def only(data: Interactions, impressions: torch.Tensor) -> Interactions:
    """Some impressions of a split, in the order asked; histories stay as they are."""
    place = torch.split(data.labels, data.candidates.lengths.tolist())
    return replace(
        data,
        users=data.users[impressions],
        history_rows=data.history_rows[impressions],
        candidates=data.candidates.select(impressions),
        labels=torch.cat([place[row] for row in impressions.tolist()]),
        impression_ids=data.impression_ids[impressions],
    )


@pytest.mark.parametrize("page_size", [1, 7, 512])
def test_caches_equal_scoring_each_impression_directly(model: Recommender, page_size: int) -> None:
    store, data = random_store(), random_interactions()
    direct = score_split_directly(model, store, data, page_size=page_size)
    scores = score_split(model, store, data, page_size=page_size).scores
    assert scores.shape == data.candidates.values.shape
    torch.testing.assert_close(scores, direct, rtol=0, atol=1e-5)


def test_scores_are_those_of_the_model_on_one_impression_at_a_time(model: Recommender) -> None:
    store, data = random_store(), random_interactions()
    model.eval()
    expected = []
    with torch.no_grad():
        for impression in range(len(data)):
            one = torch.tensor([impression])
            row = data.history_rows[one]
            history = data.histories.select(row).values
            shown = data.candidates.select(one).values
            read = model.encode_items(store.batch(history)) if history.numel() else None
            read = torch.zeros(1, 16) if read is None else read
            mask = torch.full((1, read.shape[0]), history.numel() > 0)
            user = model.user_encoder(read[None], mask)
            vectors = model.encode_items(store.batch(shown))
            expected.append(model.predictor(user[:, None], vectors[None])[0])
    found = score_split(model, store, data).scores
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)


def test_scoring_again_gives_identical_scores_and_changes_no_data(model: Recommender) -> None:
    store, data = random_store(), random_interactions()
    untouched, untouched_data = copy.deepcopy(store), copy.deepcopy(data)
    first, second = (score_split(model, store, data, page_size=8) for _ in range(2))
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.item_vectors, second.item_vectors)
    for name, tokens in store.texts.items():
        assert torch.equal(tokens.values, untouched.texts[name].values)
    assert torch.equal(data.histories.values, untouched_data.histories.values)
    assert torch.equal(data.candidates.values, untouched_data.candidates.values)


def test_an_impression_scores_the_same_whichever_others_are_missing(model: Recommender) -> None:
    store, data = random_store(), random_interactions()
    whole = score_split(model, store, data).scores.split(data.candidates.lengths.tolist())
    impressions = torch.tensor([29, 3, 4, 17, 3, 0])
    part = score_split(model, store, only(data, impressions)).scores
    expected = torch.cat([whole[row] for row in impressions.tolist()])
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-6)


def test_users_without_history_do_not_shift_the_others(model: Recommender) -> None:
    histories = [[], [5, 6], [], [7], [8, 9, 10], []]
    shown = [2, 3, 4]
    data = interactions(histories, [(row, row, shown, [1, 0, 0]) for row in (4, 0, 3, 5, 1, 2)])
    store = random_store()
    scores = score_split(model, store, data).scores.view(6, 3)
    alone = [
        score_split(model, store, interactions([histories[row]], [(0, 0, shown, [1, 0, 0])])).scores
        for row in (4, 0, 3, 5, 1, 2)
    ]
    torch.testing.assert_close(scores, torch.stack(alone), rtol=0, atol=1e-6)
    assert torch.equal(scores[1], scores[3])  # nothing read: the same user vector
    assert not torch.allclose(scores[0], scores[4])


def test_two_history_states_of_a_user_score_differently(model: Recommender) -> None:
    data = interactions([[5], [6, 7]], [(0, 0, [1, 2], [1, 0]), (0, 1, [1, 2], [0, 1])])
    early, late = score_split(model, random_store(), data).scores.view(2, 2)
    assert not torch.allclose(early, late)


def test_the_item_cache_holds_the_vector_of_item_i_in_row_i(model: Recommender) -> None:
    store, data = random_store(), random_interactions()
    cache = score_split(model, store, data, page_size=5).item_vectors
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model.encode_items(store.batch(torch.tensor([i]))) for i in range(44)])
    torch.testing.assert_close(cache, alone)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_is_without_dropout_and_leaves_the_mode_as_it_was(
    model: Recommender, training: bool
) -> None:
    model.train(training)
    store, data = random_store(), random_interactions()
    first, second = score_split(model, store, data), score_split(model, store, data)
    assert torch.equal(first.scores, second.scores)
    assert model.training == training
    score_split_directly(model, store, data)
    assert model.training == training


def test_scores_are_plain_float32_on_the_cpu(model: Recommender) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = score_split(model, random_store(), random_interactions())
    assert scores.scores.dtype == scores.item_vectors.dtype == torch.float32
    assert not scores.scores.requires_grad
    assert scores.scores.device.type == "cpu"


def test_a_split_without_impressions_has_no_scores(model: Recommender) -> None:
    data = only(random_interactions(), torch.tensor([0]))
    empty = replace(
        data,
        users=data.users[:0],
        history_rows=data.history_rows[:0],
        candidates=data.candidates.select(torch.zeros(0, dtype=torch.int64)),
        labels=data.labels[:0],
        impression_ids=data.impression_ids[:0],
    )
    assert score_split(model, random_store(), empty).scores.shape == (0,)
    assert score_split_directly(model, random_store(), empty).shape == (0,)


def test_impressions_without_candidates_take_no_room(model: Recommender) -> None:
    histories = [[5, 6], [7]]
    data = interactions(histories, [(0, 0, [], []), (1, 1, [1, 2], [1, 0]), (0, 0, [], [])])
    scores = score_split(model, random_store(), data).scores
    assert scores.shape == (2,)
    torch.testing.assert_close(scores, score_split_directly(model, random_store(), data))


@needs_gpu
def test_cpu_and_gpu_score_alike(model: Recommender) -> None:
    store, data = random_store(), random_interactions()
    on_cpu = score_split(model, store, data).scores
    on_gpu = score_split(model.to("cuda"), store.to("cuda"), data.to("cuda")).scores
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


def test_readers_of_the_same_history_are_told_apart() -> None:
    store, profiles = random_store(), random_profiles()
    config = ProfileConfig(history=SelfAttentionConfig(), profile=PoolingConfig())
    model = random_recommender(store, user=config)
    torch.nn.init.normal_(model.user_encoder.fuse.linear.weight)  # a profile starts without a say
    shown = [4, 5, 6]
    data = interactions([[2, 3]], [(user, 0, shown, [1, 0, 0]) for user in (1, 2, 4, 1)])
    found = score_split(model, store, data, profiles=profiles).scores
    direct = score_split_directly(model, store, data, profiles=profiles)
    torch.testing.assert_close(found, direct, rtol=0, atol=1e-6)
    first, second, third, again = found.view(4, 3)
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
