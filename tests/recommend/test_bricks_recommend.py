"""Bricks recommend what their evaluation ranks first, whatever the bricks are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.data.tables import Tables
from legos.evaluation.rank import ranking_of
from legos.modes.train_test import open_system
from legos.recommend.catalogue import Opened
from legos.recommend.readers import Reader
from legos.recommend.run import TrainedRun
from legos.systems.bricks.catalogue import rank_by_model
from legos.systems.bricks.system import Bricks
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from process.genre.synthetic_items import add_synthetic_items
from tests.modes.tiny_config import NAML, tiny_config
from tests.process.genre.test_store import answer
from tests.recommend.lists import assert_same_lists
from tests.tiny import tiny_tables


def model(name: str, user: dict[str, Any], predictor: dict[str, Any], item: str = "cnn") -> Any:
    own = {"name": item, "attention_size": 8} if item == "cnn" else {"name": item}
    return {**NAML, "name": name, "item": own, "user": user, "predictor": predictor}


MODELS: dict[str, dict[str, Any]] = {
    "naml": NAML,
    "nrms_cosine": model(
        "nrms", {"name": "self_attention", "num_heads": 2, "attention_size": 8}, {"name": "cosine"}
    ),
    "miner": model("miner", {"name": "poly_attention", "num_codes": 3}, {"name": "interests"}),
    "miner_bias": model(
        "miner_bias",
        {"name": "poly_attention", "num_codes": 3, "category_bias": "category"},
        {"name": "interests"},
    ),
    "lstur": model("lstur", {"name": "lstur"}, {"name": "dot"}),
    "dcn": model("dcn", {"name": "gru"}, {"name": "dcn"}),
    "din": model("din", {"name": "sequence"}, {"name": "din"}),
    "caum": model(
        "caum",
        {"name": "caum", "num_heads": 2, "num_filters": 4, "attention_sizes": [4, 4]},
        {"name": "dot"},
    ),
    "flatten": model("flatten", {"name": "flatten", "num_heads": 2}, {"name": "mlp"}),
    "sasrec": model("sasrec", {"name": "sasrec"}, {"name": "dot"}, item="id"),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("bricks") / "tables")


def untrained(
    tables: Path, chosen: dict[str, Any], *, offered: Tensor | None = None, **exp: Any
) -> tuple[TrainedRun, Bricks]:
    """A run as it is opened, with its first weights."""
    evaluate = {"ranking": "all", "metrics": ["nDCG@5"], **exp.pop("evaluate", {})}
    config = tiny_config(tables, tables.parent / "runs", model=chosen, evaluate=evaluate, **exp)
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    read = Tables.load(tables)
    system = open_system(Workplace.open(config, accelerator, read))
    assert isinstance(system, Bricks)
    if offered is not None:
        read.offered = offered
    workplace = system.workplace
    run = TrainedRun(
        tables.parent / "run", config, read, lambda: Opened(workplace, system.recommender())
    )
    return run, system


def evaluated_lists(system: Bricks, split: str, k: int) -> np.ndarray:
    workplace = system.workplace
    interactions = workplace.split(split)
    ranked = rank_by_model(
        system.model,
        workplace.store,
        interactions,
        ranking_of(workplace, interactions),
        profiles=workplace.profiles,
        k=k,
    )
    assert ranked.lists is not None
    return ranked.lists


@pytest.mark.parametrize(
    ("name", "exclude"),
    [*((name, "history") for name in MODELS), ("naml", "history+valid"), ("naml", "nothing")],
)
def test_a_list_is_that_of_the_evaluation(tables: Path, name: str, exclude: str) -> None:
    run, system = untrained(tables, MODELS[name], evaluate={"exclude": exclude})
    expected = evaluated_lists(system, "test", 12)
    users = [run.users[user] for user in run.tables.scalar("test", "user_id").tolist()]
    readers = [Reader(user, before="test") for user in users]
    assert_same_lists(run.recommend_many(readers, 12), expected, run.catalogue.ids)


@pytest.mark.parametrize("name", list(MODELS))
def test_scores_of_some_items_are_those_of_lists(tables: Path, name: str) -> None:
    run, _ = untrained(tables, MODELS[name])
    found = run.recommend("U7", k=20)
    scores = run.score(["U7"], found["item_id"].tolist())
    assert np.allclose(scores.loc["U7"].to_numpy(), found["score"].to_numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["naml", "lstur", "sasrec"])
def test_somebody_new_is_as_a_user_whom_training_did_not_see(tables: Path, name: str) -> None:
    run, system = untrained(tables, MODELS[name])
    cold = int((~system.workplace.known.users).nonzero()[0, 0])
    history = ["N3", "N9", "N10"]
    known = run.recommend(f"U{cold}", history=history)
    new = run.recommend(history=history)
    assert known.equals(new)


def test_equal_scores_stand_in_the_order_of_the_items(tables: Path) -> None:
    run, system = untrained(tables, NAML)
    recommender = system.recommender()
    recommender.vectors = torch.zeros_like(recommender.vectors)
    run = TrainedRun(
        run.folder, run.config, run.tables, lambda: Opened(system.workplace, recommender)
    )
    listed = run.recommend(history=["N2"], k=5)["item_id"].tolist()
    assert listed == ["N0", "N1", "N3", "N4", "N5"]


@pytest.fixture(scope="module")
def with_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables in which a language model wrote two items for each of two users."""
    folder = tmp_path_factory.mktemp("written")
    source = folder / "store.jsonl"
    source.write_text("{}\n")
    names = [f"{user}#{n}" for user in ("U0", "U3") for n in (1, 2)]
    written = {name: answer(name, answer={"title": "sports1 music2"}) for name in names}
    plain = tiny_tables(folder / "plain")
    add_synthetic_items(plain, written, folder / "cg", sources=[source], column="written")
    return folder / "cg"


def test_written_items_stand_in_histories_as_in_an_evaluation(with_written: Path) -> None:
    data = {"generated_items": {"column": "written", "position": "end"}}
    run, system = untrained(with_written, NAML, data=data)
    expected = evaluated_lists(system, "test", 60)
    users = [run.users[user] for user in run.tables.scalar("test", "user_id").tolist()]
    found = run.recommend_many([Reader(user, before="test") for user in users], 60)
    assert_same_lists(found, expected, run.catalogue.ids)
    other, _ = untrained(with_written, NAML)
    scores = [each.score(["U0", "U1"], ["N1"])["N1"] for each in (run, other)]
    assert scores[0]["U0"] != scores[1]["U0"]
    assert scores[0]["U1"] == pytest.approx(scores[1]["U1"])
    assert not run.items["item_id"].str.startswith("GENRE").any()
    new = run.recommend(history=["N1", "N5"], k=100)["item_id"]  # somebody new has none
    assert len(new) == 58
    run.add_items(run.items.iloc[:2].assign(item_id=["a", "b"]))
    assert {"a", "b"} <= set(run.recommend("U0", k=100)["item_id"])


def test_written_items_are_read_and_never_listed(tables: Path) -> None:
    offered = torch.ones(60, dtype=torch.bool)
    offered[[0, 7]] = False
    run, _ = untrained(tables, NAML, offered=offered)
    listed = run.recommend(history=["N2", "N7"], k=100)["item_id"].tolist()
    assert len(listed) == 57
    assert not {"N0", "N7", "N2"} & set(listed)
    assert len(run.items) == 58
    assert "N7" not in run.similar("N2", k=100)["item_id"].tolist()
