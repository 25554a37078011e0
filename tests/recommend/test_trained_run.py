"""A trained run is opened, checked, and asked for lists, scores, vectors and reasons."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import legos
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError, DataError, LegosError
from legos.recommend.histories import whole_histories
from legos.recommend.readers import Reader
from legos.recommend.run import TrainedRun
from tests.tiny import CATEGORIES, add_split


def had(run: TrainedRun, user: int) -> set[int]:
    """All items of a user in any split, read off the tables one by one."""
    tables = run.tables
    histories = tables.lists("histories", "items")
    found: set[int] = set()
    for split in tables.splits:
        users, states = tables.scalar(split, "user_id"), tables.scalar(split, "history")
        candidates, labels = tables.lists(split, "candidates"), tables.lists(split, "labels")
        for row in (users == user).nonzero()[:, 0].tolist():
            found |= set(histories.row(int(states[row])).tolist())
            clicked = labels.row(row) == 1
            found |= set(candidates.row(row)[clicked].tolist())
    return found


def test_a_folder_a_model_and_a_data_set_open_the_newest_run(trained: Path) -> None:
    for path in (trained, trained.parent, trained.parents[1], str(trained / "checkpoints/best")):
        assert legos.open(path, device="cpu").folder == trained


def test_opening_reads_neither_model_nor_items(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = legos.open(trained, device="cpu")
    assert run._catalogue is None
    assert run.name == f"tiny/naml/{trained.name}"
    assert run.metrics["test"]["GAUC"] > 0.6
    run.recommend("U3")
    assert capfd.readouterr() == ("", "")


def test_a_known_user_gets_nothing_that_any_split_says_they_had(opened: TrainedRun) -> None:
    for user in (0, 3, 17):
        listed = opened.recommend(f"U{user}", k=100)
        numbers = [int(item[1:]) for item in listed["item_id"]]
        assert set(numbers) == set(range(60)) - had(opened, user)
        everything = opened.recommend(f"U{user}", k=100, exclude_seen=False)
        assert len(everything) == 60
        assert list(listed) == ["item_id", "score", "title"]


def test_a_whole_history_begins_with_the_newest_state_and_goes_on_with_later_clicks(
    opened: TrainedRun,
) -> None:
    tables = opened.tables
    whole = whole_histories(tables, ["train", "valid", "test"])
    assert len(whole) == tables.num_users
    for user in (0, 3, 17):
        state = tables.lists("histories", "items").row(user).tolist()
        row = whole.row(user).tolist()
        assert row[: len(state)] == state
        assert set(row) == had(opened, user)


def test_a_click_that_stands_in_two_splits_was_one_click(trained: Path, tmp_path: Path) -> None:
    """As of the splits of Amazon and Goodreads, which have the same clicks and other negatives."""
    folder = Path(legos.open(trained).tables.folder)
    copied = Path(shutil.copytree(folder, tmp_path / "tables"))
    add_split(copied, "valid_uniform")
    once = whole_histories(Tables.load(folder), ["train", "valid", "test"])
    again = whole_histories(Tables.load(copied), ["train", "valid", "valid_uniform", "test"])
    assert once.offsets.tolist() == again.offsets.tolist()
    assert once.values.tolist() == again.values.tolist()


def test_a_new_reader_of_one_category_is_recommended_that_category(opened: TrainedRun) -> None:
    items = opened.items.set_index("item_id")["category"]
    for category in CATEGORIES:
        history = items[items == category].index[:4].tolist()
        listed = opened.recommend(history=history, k=5)["item_id"]
        assert (items[listed] == category).mean() >= 0.6
        assert not set(listed) & set(history)


def test_many_readers_get_what_each_gets_alone(opened: TrainedRun) -> None:
    readers = ["U1", ["N1", "N5"], Reader("U2", ["N7"]), Reader("U3", before="test")]
    together = opened.recommend_many(readers, k=7)
    alone = [opened.recommend_many([reader], k=7)[0] for reader in readers]
    for one, other in zip(together, alone, strict=True):
        assert one["item_id"].tolist() == other["item_id"].tolist()
        assert np.allclose(one["score"], other["score"], atol=1e-5)


@pytest.mark.slow
def test_eight_threads_get_what_one_gets(trained: Path) -> None:
    run = legos.open(trained, device="cpu")  # not yet loaded: all threads come to the same door
    users = [f"U{user}" for user in range(40)] * 3
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda user: run.recommend(user, k=9), users))
    serial = [run.recommend(user, k=9) for user in users]
    for one, other in zip(found, serial, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_reasons_are_what_a_score_loses_without_a_click(opened: TrainedRun) -> None:
    history, item = ["N1", "N2", "N9", "N5"], "N13"
    found = opened.reasons(item, history=history).set_index("item_id")["share"]
    score = float(opened.score([history], [item]).iloc[0, 0])
    drops = {}
    for click in history:
        rest = [other for other in history if other != click]
        drops[click] = score - float(opened.score([rest], [item]).iloc[0, 0])
    total = sum(map(abs, drops.values()))
    assert found.to_dict() == pytest.approx({k: v / total for k, v in drops.items()}, abs=1e-4)
    assert found.is_monotonic_decreasing
    assert opened.reasons(item, history=[]).empty


def test_similar_items_are_the_nearest_vectors(opened: TrainedRun) -> None:
    vectors = opened.item_vectors()
    assert vectors.shape == (60, 8)
    unit = vectors.to_numpy() / np.linalg.norm(vectors.to_numpy(), axis=1, keepdims=True)
    cosines = pd.Series(unit @ unit[4], vectors.index).drop("N4").sort_values(ascending=False)
    found = opened.similar("N4", k=6)
    assert np.allclose(found["score"], cosines.iloc[:6], atol=1e-5)


def test_vectors_of_users_and_items_give_the_scores(opened: TrainedRun) -> None:
    users, items = opened.user_vectors(), opened.item_vectors()
    assert opened.catalogue.model.similarity == "dot"
    scores = users.loc["U5"].to_numpy() @ items.loc[["N1", "N30"]].to_numpy().T
    assert np.allclose(scores, opened.score("U5", ["N1", "N30"]), atol=1e-5)


def test_new_items_are_recommended_by_their_texts_at_once(trained: Path) -> None:
    run = legos.open(trained, device="cpu")
    texts = [" ".join(f"{category}{n}" for n in range(5)) for category in CATEGORIES]
    frame = pd.DataFrame({"item_id": ["a", "b", "c", "d"], "title": texts, "category": CATEGORIES})
    before = run.recommend("U1", k=5)
    assert run.add_items(frame) == ["a", "b", "c", "d"]
    assert len(run.items) == 64
    likes = dict(zip(CATEGORIES, "abcd", strict=True))
    items = run.items.set_index("item_id")["category"]
    for category in CATEGORIES:
        history = items[items == category].index[:4].tolist()
        scores = run.score([history], list("abcd")).iloc[0]
        assert scores.idxmax() == likes[category]
    assert "a" in run.recommend(history=["N0", "N4"], k=64)["item_id"].tolist()
    assert run.recommend(history=["a"], k=3)["item_id"].tolist() != ["a"]
    assert set(before["item_id"]) <= set(run.recommend("U1", k=9)["item_id"])


def test_frames_of_new_items_are_read_as_tables_are(trained: Path) -> None:
    run = legos.open(trained, device="cpu")
    title = "music1 music2 music3"
    frame = pd.DataFrame({"item_id": [7.0, 8.0], "title": [title, f"<b>{title}</b>&nbsp;"]})
    assert run.add_items(frame.set_index("item_id")) == ["7", "8"]
    assert set(run.items.tail(2)["title"]) == {title}
    assert np.ptp(run.score([["N3"]], ["7", "8"])) < 1e-5
    several = run.recommend_many(np.array(["U1", "U2"]), k=np.int64(2))
    assert [len(each) for each in several] == [2, 2]


def test_an_item_added_again_under_another_id_scores_as_it_did(trained: Path) -> None:
    run = legos.open(trained, device="cpu")
    known = run.items.iloc[:9]
    run.add_items(known.assign(item_id=[f"copy of {item}" for item in known["item_id"]]))
    scores = run.score(["U3", ["N30"]], [*known["item_id"], *(f"copy of N{n}" for n in range(9))])
    assert np.allclose(scores.iloc[:, :9], scores.iloc[:, 9:], atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"title": ["a"]}, "no column 'item_id'"),
        ({"item_id": ["x"]}, "no column 'title'"),
        ({"item_id": ["x"], "titel": ["a"]}, "did you mean 'titel'"),
        ({"item_id": ["x", "x"], "title": ["a", "b"]}, "row 1: 'x' is also in row 0"),
        ({"item_id": ["N3"], "title": ["a"]}, "'N3' already exists"),
        ({"item_id": [""], "title": ["a"]}, "row 0: item_id is empty"),
        ({"item_id": ["x", "y"], "title": ["a", None]}, r"row 1 \('y'\): title: all are empty"),
        ({"item_id": [], "title": []}, "no rows"),
        ([{"item_id": "x", "title": "a"}], "found a list, expected a pandas DataFrame"),
        (pd.DataFrame([["x", "a", "b"]], columns=["item_id", "title", "title"]), "occurs twice"),
    ],
)
def test_new_items_that_are_none_are_refused(opened: TrainedRun, frame: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened.add_items(pd.DataFrame(frame) if isinstance(frame, dict) else frame)
    assert len(opened.items) == 60


def test_unknown_names_and_questions_get_one_line(opened: TrainedRun) -> None:
    for ask, kind, message in (
        (lambda: opened.recommend("U99"), DataError, "no user 'U99'; did you mean 'U9'"),
        (lambda: opened.recommend(history=["N99"]), DataError, "no item 'N99'"),
        (lambda: opened.similar("item"), DataError, "no item 'item'"),
        (lambda: opened.recommend(), ConfigError, "expected a user, or a history"),
        (lambda: opened.recommend("U1", k=0), ConfigError, "k: 0"),
        (lambda: opened.recommend(history="N1"), ConfigError, "a list of item ids"),
        (lambda: opened.recommend("U1", before="tets"), DataError, "did you mean 'test'"),
        (lambda: opened.recommend(history=["N1"], before="test"), ConfigError, "needs a user"),
        (lambda: opened.rate("U1", "N1"), ConfigError, "does not generate text"),
        (lambda: opened.score([], ["N1"]), ConfigError, "at least one reader"),
    ):
        with pytest.raises(kind, match=message) as found:
            ask()
        assert "\n" not in str(found.value)


def test_what_is_not_as_it_was_trained_is_not_opened(trained: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained.parents[2], runs)
    folder = runs / trained.relative_to(trained.parents[2])
    config = json.loads((folder / "config.json").read_text())
    tables = Path(shutil.copytree(config["data"]["folder"], tmp_path / "moved"))
    assert legos.open(folder, data=tables, device="cpu").recommend("U1").shape == (10, 3)
    values = np.load(tables / "columns/items/category.npy")
    np.save(tables / "columns/items/category.npy", values[::-1])
    with pytest.raises(CheckpointError, match=r"data\.folder: its content hash is"):
        legos.open(folder, data=tables)
    with pytest.raises(DataError, match="data='FOLDER'"):
        legos.open(folder, data=tmp_path / "nowhere")
    weights = folder / "checkpoints/best/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(LegosError, match="damaged"):
        legos.open(folder, device="cpu").recommend("U1")
    shutil.rmtree(folder / "checkpoints/best")
    with pytest.raises(CheckpointError, match="no trained model"):
        legos.open(folder)
