"""A reader without any history gets the most popular items, and everybody is told so."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import legos
import legos.tables
from legos.commands.main import main
from legos.config.load import load_run_config
from legos.errors import DataError
from legos.evaluation.rank import NO_ITEM, Best
from legos.modes.main import run
from legos.recommend.lists import NoHistory, find_lists
from legos.recommend.readers import Reader
from legos.recommend.run import TrainedRun

ITEMS = pd.DataFrame({"item_id": list("abcdefgh"), "title": [f"thing {n}" for n in range(8)]})
CLICKS = {  # f is had by four users, b by three, e by two; nobody clicked g and h
    "u1": "fbe", "u2": "fbc", "u3": "fbd", "u4": "fea", "quiet": "",
}  # fmt: skip
READERS = {"f": 4, "b": 3, "e": 2, "a": 1, "c": 1, "d": 1, "g": 0, "h": 0}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """An item-kNN over lists that were shown; one user clicked nothing of theirs."""
    root = tmp_path_factory.mktemp("no-history")
    rows = [
        {"user_id": user, "item_id": item, "time": 1_735_689_600 + 60 * place + shown,
         "impression_id": f"{user}-{place}", "label": int(shown == 0)}
        for user, clicks in CLICKS.items()
        for place, clicked in enumerate(clicks or "-")
        for shown, item in enumerate([clicked, "g"] if clicks else ["a", "b"])
        if clicks or shown
    ]  # fmt: skip
    events = pd.DataFrame(rows)
    folder = legos.tables.build(ITEMS, events, output=root / "tables", split="none")
    words = ["--data", str(folder), "--model", "item_knn", "--exp.runs_folder", str(root / "runs")]
    run(load_run_config([*words, "--device", "cpu"]))
    return legos.open(root / "runs", device="cpu")


def popular(run: TrainedRun) -> list[str]:
    """Items by how many users have had them, equal ones as in the tables."""
    return sorted(run.items["item_id"], key=lambda item: -READERS[item])


def test_a_user_without_a_click_gets_what_most_users_have_had(shop: TrainedRun) -> None:
    told = "user 'quiet' has no history: the list contains the most popular items"
    with pytest.warns(NoHistory, match=told) as warned:
        found = shop.recommend("quiet")
    assert warned[0].filename == __file__
    assert found["item_id"].tolist() == popular(shop)
    assert found["score"].tolist() == list(READERS.values())
    assert found.attrs["notice"].startswith(told)


def test_a_new_user_without_items_gets_the_same(shop: TrainedRun) -> None:
    with pytest.warns(NoHistory, match="a new user has no history"):
        found = shop.recommend(history=[], k=3)
    assert found["item_id"].tolist() == ["f", "b", "e"]


def test_who_has_a_history_is_asked_of_the_model_as_before(shop: TrainedRun) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = shop.recommend("u1")
        as_evaluated = shop.recommend("quiet", before="valid")  # what an evaluation lists
    assert "notice" not in alone.attrs
    assert as_evaluated["score"].tolist() == [0.0] * 8
    with pytest.warns(NoHistory, match="2 of 3 readers have no history: their lists"):
        together = shop.recommend_many(["quiet", "u1", []])
    pd.testing.assert_frame_equal(together[1], alone)
    assert [each["item_id"].tolist() for each in together[::2]] == [popular(shop)] * 2


def test_an_unknown_user_is_still_an_error(shop: TrainedRun) -> None:
    with pytest.raises(DataError, match=r"no user 'u9'; .*a new user has a history, which may be"):
        shop.recommend("u9")


def test_commands_print_a_notice(shop: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["recommend", str(shop.folder), "--device", "cpu", "--k", "2"]
    assert main([*asked, "--user", "quiet", "u1"]) == 0
    printed = capsys.readouterr()
    title = " ".join(printed.out.split())
    assert "for quiet, the most popular items" in title
    assert "for u1 " in title
    assert "notice: 1 of 2 readers has no history" in printed.err
    assert "NoHistory" not in printed.err
    assert main([*asked, "--history", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["notice"].startswith("a new user has no history")
    assert [item["item_id"] for item in found["items"]] == ["f", "b"]


def test_an_export_has_popular_items_and_prints_a_notice(
    shop: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "lists.csv"
    words = ["recommend", str(shop.folder), "--all", "--output", str(output), "--device", "cpu"]
    assert main(words) == 0
    assert "notice: 1 of 5 readers has no history" in capsys.readouterr().err
    assert json.loads((tmp_path / "lists.csv.json").read_text())["without_history"] == ["quiet"]
    lists = pd.read_csv(output).groupby("user_id")["item_id"].agg(list)
    assert lists["quiet"] == popular(shop)


def test_added_items_come_last_and_hidden_ones_never(shop: TrainedRun) -> None:
    hidden, known = popular(shop)[0], popular(shop)[1:]
    rows = shop.catalogue.rows

    class Model:
        offered = torch.tensor([number != rows[hidden] for number in range(9)])  # one is added

        def top(self, readers: Any, count: int, excluded: Any) -> Best:
            items = torch.full((len(readers), 1), 6)  # a search may find fewer
            return Best(items, torch.zeros(len(readers), 1), torch.ones(len(readers)).long())

    model: Any = Model()
    catalogue = replace(shop.catalogue, model=model)
    readers = [Reader("quiet"), Reader("u1"), Reader(history=[])]
    best = find_lists(catalogue, shop._readership, readers, 8, exclude_seen=True).best
    popular_list = [*(rows[item] for item in known), 8]
    assert best.items.tolist() == [popular_list, [6] + [NO_ITEM] * 7, popular_list]
    assert best.scores[0].tolist() == [*(READERS[item] for item in known), 0]
    assert best.proven is not None
    assert best.proven.tolist() == [8, 1, 8]
