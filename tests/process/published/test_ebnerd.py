"""EB-NeRD's bundles become impressions as they were shown, with the histories of their users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from process.columns import ColumnReader
from tests.process.published.published import build, refused, run_printed, texts
from tests.process.table.own import clicks, fields

BEGIN = datetime(2023, 5, 18, 7)
ARTICLES = [
    {
        "article_id": 1000 + n, "title": f"Nyhed {n}", "subtitle": f"Om {n}" if n % 3 else "",
        "last_modified_time": BEGIN, "premium": n % 5 == 0, "body": f"Der skete {n} ting i dag.",
        "published_time": BEGIN - timedelta(days=1), "image_ids": [n], "article_type":
        "article_default", "url": f"https://eb.dk/{n}", "ner_clusters": ["x"], "entity_groups":
        ["PER"], "topics": ["Sport", "Fodbold"] if n % 2 else [], "category": 100 + n % 4,
        "subcategory": [1], "category_str": ("sport", "krimi")[n % 2], "total_inviews": 10.0 * n,
        "total_pageviews": 1.0 * n, "total_read_time": 5.0, "sentiment_score": 0.9,
        "sentiment_label": "Neutral",
    }
    for n in range(30)
]  # fmt: skip


def impression(n: int, user: int, hours: float, shown: list[int], **more: Any) -> dict[str, Any]:
    """A row of behaviors with the columns that are not read, too."""
    return {
        "impression_id": n, "article_id": None, "impression_time": BEGIN + timedelta(hours=hours),
        "read_time": 3.0, "scroll_percentage": None, "device_type": 2, "article_ids_inview":
        [1000 + s for s in shown], "article_ids_clicked": [1000 + shown[0]], "user_id": user,
        "is_sso_user": False, "gender": None, "postcode": None, "age": None, "is_subscriber":
        False, "session_id": n, "next_read_time": 1.0, "next_scroll_percentage": None, **more,
    }  # fmt: skip


def rows(begin: int, first_hour: float) -> list[dict[str, Any]]:
    """Twelve users, four impressions each over three days."""
    return [
        impression(
            begin + 12 * k + user, 500 + user, first_hour + 22 * k + user / 60,
            [(7 * user + 3 * k + j) % 30 for j in range(4)],
        )
        for k in range(4)
        for user in range(12)
    ]  # fmt: skip


def history(shift: int) -> list[dict[str, Any]]:
    """Of eleven of the twelve users."""
    return [
        {
            "user_id": 500 + user, "impression_time_fixed": [BEGIN] * 5,
            "scroll_percentage_fixed": [1.0] * 5, "read_time_fixed": [1.0] * 5,
            "article_id_fixed": [1000 + (user + shift + j) % 30 for j in range(5)],
        }
        for user in range(11)
    ]  # fmt: skip


def write(folder: Path, **changed: list[dict[str, Any]]) -> Path:
    """A bundle; ``changed``: other rows of a file, by ``train_behaviors`` or ``articles``."""
    folder.mkdir(parents=True)
    pd.DataFrame(changed.get("articles", ARTICLES)).to_parquet(folder / "articles.parquet")
    for part, begin, hour in (("train", 1, 0.0), ("validation", 1001, 168.0)):
        (folder / part).mkdir()
        behaviors = changed.get(f"{part}_behaviors", rows(begin, hour))
        pd.DataFrame(behaviors).to_parquet(folder / part / "behaviors.parquet")
        read = changed.get(f"{part}_history", history(int(hour) % 7))
        pd.DataFrame(read).to_parquet(folder / part / "history.parquet")
    return folder


def add_test(folder: Path) -> None:
    """The test set: no clicks, and rows for measures beyond accuracy."""
    (folder / "test").mkdir()
    shown = pd.DataFrame(rows(5001, 336.0)).drop(columns="article_ids_clicked")
    shown["is_beyond_accuracy"] = [False] * 40 + [True] * 8
    shown.loc[40:, "impression_id"] = 0
    shown.to_parquet(folder / "test/behaviors.parquet")
    pd.DataFrame(history(3)).to_parquet(folder / "test/history.parquet")


def sizes(tables: ColumnReader) -> dict[str, int]:
    splits = tables.manifest["summary"]["splits"]
    return {name: split["impressions"] for name, split in splits.items()}


@pytest.mark.slow
def test_a_bundle_becomes_impressions_as_they_were_shown(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    add_test(folder)
    tables = build(folder, tmp_path / "tables")
    # train: hours 0, 22, 44, 66 and minutes; the last 24 of them are hours after 42.2
    assert sizes(tables) == {"train": 24, "valid": 24, "test": 48, "test_unlabelled": 40}
    user, read, click, others = clicks(tables, "test")[0]
    assert (user, click, others) == ("500", "1000", ["1001", "1002", "1003"])
    assert read == ["1000", "1001", "1002", "1003", "1004"]  # of validation, shifted by 0
    (of_last,) = {tuple(read) for user, read, _, _ in clicks(tables, "train") if user == "511"}
    assert of_last == ()
    assert tables.manifest["oddities"]["impressions of users without a history"] == 11
    beyond = "impressions for measures beyond accuracy, left out"
    assert tables.manifest["oddities"][beyond] == 8
    assert (tables.lists("test_unlabelled", "labels").values == -1).all()
    first = (BEGIN + timedelta(hours=168)).replace(tzinfo=UTC)
    assert tables.scalar("test", "time").min() == first.timestamp()


def test_fields_are_texts_and_categories_and_no_success_of_later_days(tmp_path: Path) -> None:
    tables = build(write(tmp_path / "raw"), tmp_path / "tables", "--longest-history", "2")
    assert fields(tables) == {
        "title": "text", "subtitle": "text", "body": "text", "topics": "text",
        "category_str": "category", "article_type": "category", "premium": "category",
        "sentiment_label": "category",
    }  # fmt: skip
    assert texts(tables, "topics")["1001"] == "Sport, Fodbold"
    assert texts(tables, "subtitle")["1003"] == ""
    assert clicks(tables, "test")[0][1] == ["1003", "1004"]


def test_bad_impressions_and_unknown_articles_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = rows(1, 0.0)
    changed[3]["article_ids_inview"] = []
    changed[4]["user_id"] = None
    changed[5]["article_ids_inview"] = [1000, 77]
    changed[6]["article_ids_inview"] = [77]
    changed[7]["article_ids_clicked"] = [1029, 1005]
    folder = write(tmp_path / "raw", train_behaviors=changed)
    told = refused(folder, tmp_path / "none", capsys)
    assert "behaviors.parquet: row 4: the impression has no articles in view" in told
    tables = build(folder, tmp_path / "tables", "--max-bad", "0.1")
    odd = tables.manifest["oddities"]
    assert odd["lines left out: no articles in view"] == 1
    assert odd["lines left out: no user"] == 1
    assert odd["articles in view that articles.parquet does not have, left out"] == 2
    assert odd["impressions of unknown articles alone, left out"] == 1
    assert odd["clicks on articles that were not shown"] >= 2


def test_what_does_not_fit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "raw")
    told = refused(folder, tmp_path / "o", capsys, "--split", "by-time")
    assert "--split: ebnerd contains shown lists" in told
    frame = pd.DataFrame(rows(1, 0.0)).rename(columns={"article_ids_inview": "inview"})
    frame.to_parquet(folder / "train/behaviors.parquet")
    assert "no column 'article_ids_inview'" in refused(folder, tmp_path / "o", capsys)
    (folder / "train/behaviors.parquet").write_bytes(b"PAR1 no PAR1")
    assert "damaged Parquet file" in refused(folder, tmp_path / "o", capsys)
    twice = write(tmp_path / "twice", train_history=[*history(0), *history(0)[:1]])
    assert "row 12: user 500 already exists" in refused(twice, tmp_path / "o", capsys)
    day = [row for row in rows(1, 0.0) if row["impression_time"] < BEGIN + timedelta(hours=20)]
    short = write(tmp_path / "short", train_behaviors=day)
    assert "all impressions are of one day" in refused(short, tmp_path / "o", capsys)
    (folder / "validation/history.parquet").unlink()
    write(tmp_path / "other")
    (tmp_path / "other/validation/history.parquet").unlink()
    assert "history.parquet: no such file" in refused(tmp_path / "other", tmp_path / "o", capsys)


@pytest.mark.slow
def test_the_printed_command_trains_on_shown_articles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build(write(Path("raw")), Path("data/ebnerd"))
    run_printed(Path("data/ebnerd"), capsys, "--exp.train.epochs", "1", "--exp.report", "false")
    assert list(tmp_path.glob("runs/ebnerd/*/*/results.json"))
