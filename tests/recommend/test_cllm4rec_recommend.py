"""CLLM4Rec recommends what its evaluation ranks first, leaves out what it says, serves sessions."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from legos.errors import ConfigError, DataError
from legos.evaluation.rank import rank, ranking_of
from legos.recommend.catalogue import Opened
from legos.recommend.readers import Reader
from legos.recommend.run import TrainedRun
from legos.systems.cllm4rec.evaluate import _scorer
from legos.workplace.device import make_accelerator
from tests.recommend.lists import assert_same_lists
from tests.systems.cllm4rec.world import world_config

pytestmark = pytest.mark.slow  # a training of seconds


@pytest.fixture(name="opened")
def _opened(cllm4rec: TrainedRun) -> TrainedRun:
    return cllm4rec


def evaluated(opened: TrainedRun, split: str, k: int) -> np.ndarray:
    """Lists of the evaluation, by impression."""
    workplace = opened._opened.workplace
    model = opened.catalogue.model
    interactions = workplace.split(split)
    ranking = ranking_of(workplace, interactions)
    score = _scorer(workplace, model.model, model.prompts, ranking.states)  # type: ignore[attr-defined]
    lists = rank(ranking, score, k=k).lists
    assert lists is not None
    return lists


def readers(opened: TrainedRun, split: str) -> list[Reader]:
    users = opened.tables.scalar(split, "user_id").tolist()
    return [Reader(opened.users[user], before=split) for user in users]


def test_a_list_is_that_of_the_evaluation(opened: TrainedRun) -> None:
    expected = evaluated(opened, "test", 12)
    found = opened.recommend_many(readers(opened, "test"), 12)
    assert_same_lists(found, expected, opened.catalogue.ids)


def test_a_file_of_lists_is_that_of_the_evaluation(opened: TrainedRun, tmp_path: Path) -> None:
    """User id to best items, as the public code's prediction ranks them."""
    expected = evaluated(opened, "test", 12)
    path = opened.recommend_all(12, tmp_path / "lists.jsonl", before="test", page=7)
    found = pd.read_json(path, lines=True)
    users = opened.tables.scalar("test", "user_id").tolist()
    for user, items in zip(users, expected, strict=True):
        own = found[found["user_id"] == opened.users[user]]
        assert own["item_id"].tolist() == opened.catalogue.ids[items].tolist()
        assert own["rank"].tolist() == list(range(1, 13))
    valid = opened.tables.lists("valid", "candidates").values.tolist()
    assert set(opened.catalogue.ids[valid]) & set(found["item_id"])  # they compete in the test
    later = pd.read_json(opened.recommend_all(12, tmp_path / "now.jsonl"), lines=True)
    assert not later.equals(found)  # without `before` nothing is listed that a user has had
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        opened.recommend_all(3, tmp_path / "none.csv", before="tset")


def with_train_and_valid_left_out(opened: TrainedRun) -> TrainedRun:
    """The same run by ``model.recommendation.exclude: train+valid``."""
    settings = opened.config.model.model_dump(mode="json")
    settings["recommendation"]["exclude"] = "train+valid"
    config = opened.config.model_copy(
        update={"model": type(opened.config.model).model_validate(settings)}
    )
    workplace = replace(opened._opened.workplace, config=config)
    model = opened.catalogue.model
    return TrainedRun(opened.folder, config, opened.tables, lambda: Opened(workplace, model))


def test_what_a_model_never_recommends_counts_in_its_evaluation_too(opened: TrainedRun) -> None:
    other = with_train_and_valid_left_out(opened)
    workplace = other._opened.workplace
    before = ranking_of(opened._opened.workplace, workplace.split("test"))
    after = ranking_of(workplace, workplace.split("test"))
    assert (before.sizes - after.sizes).tolist() == [1] * 20  # one valid click a user
    valid = ranking_of(workplace, workplace.split("valid"))
    assert valid.unlisted == 0
    found = other.recommend_many(readers(other, "test"), 40)
    expected = evaluated(other, "test", 40)
    assert_same_lists(found, expected, other.catalogue.ids)


def test_leaving_out_nothing_and_train_and_valid_contradict_each_other(tmp_path: Path) -> None:
    model = {"recommendation": {"exclude": "train+valid"}}
    with pytest.raises(ValueError, match=r"exp\.evaluate\.exclude nothing, but model cllm4rec"):
        world_config(tmp_path, model=model, evaluate={"exclude": "nothing"})


def test_a_session_goes_on_where_a_list_would_begin_anew(opened: TrainedRun) -> None:
    session = opened.session("U3")
    first = session.recommend(5)
    listed = opened.recommend("U3", k=5)
    assert first["item_id"].tolist() == listed["item_id"].tolist()
    assert np.allclose(first["score"], listed["score"], atol=1e-4)
    event = first["item_id"][0]
    session.append([event])
    assert event not in session.recommend(40)["item_id"].tolist()


def test_runs_of_two_precisions_are_open_beside_each_other(opened: TrainedRun) -> None:
    """Accelerate keeps one precision a process; a notebook opens what it likes."""
    given = {"device": "cpu", "deterministic": False, "beside": True}
    assert not torch.is_autocast_enabled("cpu")
    for precision, enabled in (("bf16", True), ("fp32", False)):
        accelerator = make_accelerator(precision=precision, **given)  # type: ignore[arg-type]
        with accelerator.autocast():
            assert torch.is_autocast_enabled("cpu") == enabled
    workplace = replace(
        opened._opened.workplace, accelerator=make_accelerator(precision="bf16", **given)
    )  # type: ignore[arg-type]
    model = copy(opened.catalogue.model)
    model.workplace = workplace  # type: ignore[attr-defined]
    rounded = TrainedRun(
        opened.folder, opened.config, opened.tables, lambda: Opened(workplace, model)
    )
    exact, near = (run.score(["U3"], ["B1", "B2"]).to_numpy() for run in (opened, rounded))
    assert not np.array_equal(exact, near)
    assert np.allclose(exact, near, atol=0.3)


def test_reasons_scores_and_vectors_are_there(opened: TrainedRun) -> None:
    history = opened.history("U3")["item_id"].tolist()
    reasons = opened.reasons("B30", "U3")
    assert sorted(reasons["item_id"]) == sorted(history)
    assert reasons["share"].abs().sum() == pytest.approx(1.0)
    assert opened.item_vectors().shape == (32, 32)
    assert opened.user_vectors().shape == (20, 32)
    assert len(opened.similar("B3", k=4)) == 4
    scores = opened.score(["U3", "U4"], ["B1", "B2"])
    assert scores.shape == (2, 2)


def test_what_it_cannot_do_says_so_in_one_line(opened: TrainedRun) -> None:
    frame = pd.DataFrame({"item_id": ["x"], "title": ["a piano number1"]})
    for ask, message in (
        (lambda: opened.recommend(history=["B1"]), "a token of every user"),
        (lambda: opened.add_items(frame), "a token of every item"),
        (lambda: opened.headline("fine"), "does not generate text"),
    ):
        with pytest.raises(ConfigError, match=message) as found:
            ask()
        assert "\n" not in str(found.value)
    with pytest.raises(DataError, match="no user 'U77'"):
        opened.session("U77")
    assert len(opened.recommend("U1", history=["B9"], k=31)) == 31
