"""Lists of all users as a file: what each gets alone, whole or not at all, and after a kill."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from legos.errors import ConfigError, DataError
from legos.recommend.everyone import describe_lists
from legos.recommend.run import TrainedRun


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_user_gets_what_they_get_alone(opened: TrainedRun, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"lists.{kind}"
    assert opened.recommend_all(k=4, output=path) == path
    read: Any = {"parquet": pd.read_parquet, "csv": pd.read_csv}.get(kind)
    found = read(path) if read else pd.read_json(path, lines=True)
    assert list(found) == ["user_id", "rank", "item_id", "score"]
    assert found["user_id"].unique().tolist() == opened.users
    for user in ("U0", "U21"):
        own = found[found["user_id"] == user]
        assert own["rank"].tolist() == [1, 2, 3, 4]
        assert own["item_id"].tolist() == opened.recommend(user, k=4)["item_id"].tolist()
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / f"{path.name}.json"]


def test_a_file_beside_the_lists_says_which_run_made_them(
    opened: TrainedRun, tmp_path: Path
) -> None:
    path = opened.recommend_all(4, tmp_path / "lists.csv", users=["U3", "U5"])
    about = json.loads((tmp_path / "lists.csv.json").read_text())
    checkpoint = opened.folder / "checkpoints" / "best" / "state.json"
    trained = datetime.fromisoformat(about["trained"])
    assert 0 <= checkpoint.stat().st_mtime - trained.timestamp() < 1
    assert about["folder"] == str(opened.folder)
    assert (about["model"], about["run"]) == ("naml", opened.folder.name)
    assert about["tables"] == opened.tables.fingerprint
    assert (about["users"], about["k"], about["without_history"]) == (2, 4, [])
    assert describe_lists(path).startswith(
        f"{path}: lists of 2 users by {opened.folder} (model naml, trained {trained:%Y-%m-%d} "
    )


def test_lists_of_another_run_are_never_beside_the_file_of_the_first(
    opened: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = opened.recommend_all(4, tmp_path / "lists.csv")

    def dying(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("legos.recommend.everyone.write_frames", dying)
    with pytest.raises(KeyboardInterrupt):
        opened.recommend_all(3, path)
    assert not (tmp_path / "lists.csv.json").exists()


def test_what_was_done_before_a_kill_is_not_done_again(
    opened: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.parquet"
    opened.recommend_all(3, whole, page=10)
    asked: list[int] = []
    lists = opened._frames

    def dying(catalogue: Any, readers: Any, k: int, exclude_seen: bool) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(readers))
        return lists(catalogue, readers, k, exclude_seen)

    monkeypatch.setattr(opened, "_frames", dying)
    path = tmp_path / "lists.parquet"
    with pytest.raises(KeyboardInterrupt):
        opened.recommend_all(3, path, page=10)
    assert not path.exists()
    asked.clear()
    opened.recommend_all(3, path, page=10)
    assert asked == [10, 10]
    assert path.read_bytes() == whole.read_bytes()
    monkeypatch.undo()
    monkeypatch.setattr(opened, "_frames", dying)
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        opened.recommend_all(3, path, page=10)
    assert path.read_bytes() == whole.read_bytes()
    asked.clear()
    with pytest.raises(KeyboardInterrupt):  # another k: nothing of that is of use
        opened.recommend_all(2, path, page=10)
    assert asked == [10, 10]


def test_other_files_and_users_are_refused(opened: TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends with \.parquet, \.csv, \.jsonl"):
        opened.recommend_all(output=tmp_path / "lists.xlsx")
    with pytest.raises(DataError, match="no user 'U77'"):
        opened.recommend_all(output=tmp_path / "lists.csv", users=["U1", "U77"])
    with pytest.raises(ConfigError, match="k: 0"):
        opened.recommend_all(k=0, output=tmp_path / "lists.csv")
    assert not list(tmp_path.iterdir())
