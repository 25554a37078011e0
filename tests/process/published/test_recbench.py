"""RecBench's Parquet files become one impression a user and split."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from process.columns import ColumnReader
from tests.process.published.published import build, refused, run_printed, texts
from tests.process.table.own import clicks

NAMES = [  # of RecBench's own processors: user, item, history
    ("uid", "nid", "history"), ("customer_id", "article_id", "history"),
    ("userId", "movieId", "his"), ("user_id", "business_id", "history"),
]  # fmt: skip


def write(folder: Path, user: str = "uid", item: str = "nid", history: str = "history") -> Path:
    """Twenty items; users 0 to 19 of finetune, 20 to 24 of test; four rows each."""
    folder.mkdir(parents=True)
    pd.DataFrame(
        {item: range(100, 120), "title": [f"Story {n}" for n in range(20)],
         "genres": [("a", "b")[n % 2] for n in range(20)]}
    ).to_parquet(folder / "items.parquet")  # fmt: skip
    people = [{user: n, history: [100 + (n + j) % 20 for j in range(3)]} for n in range(24)]
    pd.DataFrame([*people, {user: 3, history: [119]}]).to_parquet(folder / "users.parquet")
    for name, those in (("finetune", range(20)), ("test", range(20, 25))):
        rows = [
            {user: n, item: 100 + (n + 5 + j) % 20, "click": int(j < 2)}
            for n in those for j in range(4)
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    return folder


def sizes(tables: ColumnReader) -> dict[str, int]:
    splits = tables.manifest["summary"]["splits"]
    return {name: split["impressions"] for name, split in splits.items()}


@pytest.mark.parametrize(("user", "item", "history"), NAMES)
def test_columns_of_every_set_are_found(user: str, item: str, history: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", user, item, history)
    (folder / "valid_user_set_0.1.txt").write_text("4\n5\n")
    tables = build(folder, tmp_path / "tables")
    assert sizes(tables) == {"train": 18, "valid": 2, "test": 5}
    assert clicks(tables, "valid")[0] == ("4", ["104", "105", "106"], "109 110", ["111", "112"])
    (last,) = [read for name, read, _, _ in clicks(tables, "train") if name == "3"]
    assert last == ["119"]  # of two rows of a user RecBench takes the last
    assert clicks(tables, "test")[-1][1] == []  # user 24 is in no users.parquet
    assert tables.manifest["oddities"]["users without a row in users.parquet"] == 1
    assert texts(tables, "title")["100"] == "Story 0"


def test_without_a_list_of_users_a_tenth_is_valid(tmp_path: Path) -> None:
    tables = build(write(tmp_path / "raw"), tmp_path / "tables", "--longest-history", "1")
    assert sizes(tables) == {"train": 18, "valid": 2, "test": 5}
    assert max(len(read) for _, read, _, _ in clicks(tables, "train")) == 1
    assert "by a hash" in tables.manifest["split_rule"]


def test_bad_rows_and_missing_columns_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "raw")
    rows = pd.read_parquet(folder / "finetune.parquet")
    rows.loc[5, "click"], rows.loc[6, "nid"] = 7, 999
    rows.to_parquet(folder / "finetune.parquet")
    assert "finetune.parquet: row 6: 'click' is not 0 or 1" in refused(
        folder, tmp_path / "o", capsys, "--max-bad", "0"
    )
    tables = build(folder, tmp_path / "tables", "--max-bad", "0.1")
    assert tables.manifest["oddities"]["rows of unknown items, left out"] == 1
    rows.rename(columns={"click": "liked"}).to_parquet(folder / "finetune.parquet")
    told = refused(folder, tmp_path / "o", capsys)
    assert "which column is the click? found none among uid, nid, liked" in told
    (folder / "test.parquet").unlink()
    assert "test.parquet: no such file" in refused(folder, tmp_path / "o", capsys)


@pytest.mark.slow
def test_the_printed_command_trains_on_recbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build(write(Path("raw")), Path("data/rb"))
    run_printed(Path("data/rb"), capsys, "--exp.train.epochs", "1", "--exp.report", "false")
    assert list(tmp_path.glob("runs/rb/*/*/results.json"))
