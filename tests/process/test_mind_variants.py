"""MIND's news in other languages (xMIND), and its dev halved by ONCE's list of impressions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import worker
from legos.commands.main import main
from process.columns import ColumnReader
from tests.process.mind_files import DEV, write_lines, write_mind

WORDS = ("--tokenizer", "words=words", "--no-unitok")
RON = ("N1\tFinala cupei\tDouă echipe, o cupă.", "N2\tAfară, a spus ea\t", "N9\tNecunoscut\t")
RON_DEV = ("N3\tAcțiunile scad\tPiețele au scăzut luni.", "N1\tAlta\tAlta")


def write_xmind(folder: Path, train: tuple[str, ...] = RON, size: str = "small") -> Path:
    """Files of one language, as they are unpacked."""
    write_lines(folder / f"xMIND{size}_train/news.tsv", train)
    write_lines(folder / f"xMIND{size}_dev/news.tsv", RON_DEV)
    return folder


def build(tmp_path: Path, *words: str | Path) -> ColumnReader:
    """Tables of the hand-made newsroom."""
    raw = write_mind(tmp_path / "raw")
    output = tmp_path / "tables"
    line = ["mind", "--raw", raw, "--output", output, *WORDS, *words]
    assert main([str(word) for word in line]) == 0
    return ColumnReader(output)


def texts(tables: ColumnReader, field: str) -> dict[str, str]:
    return dict(zip(tables.vocabulary("item_id"), tables.texts(field), strict=True))


def test_a_language_stands_beside_the_english_texts(tmp_path: Path) -> None:
    plain = build(tmp_path / "plain")
    ron = write_xmind(tmp_path / "xMIND/ron")
    cmn = write_xmind(tmp_path / "xMIND/cmn", ("N1\t杯赛决赛\t两支球队",), "large")
    tables = build(tmp_path / "x", "--xmind", ron, cmn)
    assert tables.text_fields == (
        "title", "abstract", "title_ron", "abstract_ron", "title_cmn", "abstract_cmn",
    )  # fmt: skip
    assert texts(tables, "title_ron") == {
        "N1": "Finala cupei", "N2": "Afară, a spus ea", "N3": "Acțiunile scad", "N4": "", "N5": "",
    }  # fmt: skip
    assert texts(tables, "abstract_ron")["N3"] == "Piețele au scăzut luni."
    assert texts(tables, "title_cmn")["N1"] == "杯赛决赛"
    assert texts(tables, "title") == texts(plain, "title")
    for split in ("train", "valid", "test"):
        assert (
            tables.lists(split, "candidates").values == plain.lists(split, "candidates").values
        ).all()
    odd = tables.manifest["oddities"]
    assert odd["news without a text in ron"] == 2
    assert odd["texts in ron of unknown news"] == 1
    assert sum("xMIND" in source["path"] for source in tables.manifest["sources"]) == 4


@pytest.mark.parametrize(
    ("place", "lines", "message"),
    [
        ("ron", ("N1\tA",), "news.tsv:1: found 2 TAB-separated columns, expected 3"),
        ("ron", ("N1\tA\tB", "N1\tC\tD"), "news.tsv:2: news id 'N1' occurs twice"),
        ("xMIND-3", RON, "expected a folder named by a language"),
    ],
)
def test_what_is_no_translation_is_refused(
    place: str, lines: tuple[str, ...], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = write_xmind(tmp_path / place, lines)
    raw = write_mind(tmp_path / "raw")
    line = ["mind", "--raw", str(raw), "--output", str(tmp_path / "o"), "--xmind", str(folder)]
    assert main(line) == 2
    assert message in capsys.readouterr().err
    assert main([*line[:-1], str(raw)]) == 2
    assert "no xMINDsmall_train/news.tsv" in capsys.readouterr().err


def test_dev_is_halved_by_the_list(tmp_path: Path) -> None:
    dev = [*DEV, "3\tU1\t11/15/2019 3:00:00 PM\tN1\tN5-1 N2-0"]
    raw = write_mind(tmp_path / "raw", dev=dev)
    (tmp_path / "list.json").write_text(json.dumps([2, "77", 1, 99]))
    line = ["mind", "--raw", raw, "--halves", tmp_path / "list.json", "--output", tmp_path / "o"]
    assert main([*map(str, line), *WORDS]) == 0
    tables = ColumnReader(tmp_path / "o")
    splits = tables.manifest["summary"]["splits"]
    assert {name: split["impressions"] for name, split in splits.items()} == {
        "train": 3, "valid": 1, "test": 2,
    }  # fmt: skip
    users = tables.vocabulary("user_id")
    assert users[tables.scalar("valid", "user_id")[0]] == "U3"  # impression 2
    assert tables.manifest["oddities"]["listed impressions that dev does not have"] == 2
    assert tables.manifest["oddities"]["impressions of dev that are not listed, in test"] == 1
    assert "published list" in tables.manifest["split_rule"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 1, 2]", "impression 1 is listed 2 times"),
        ('{"valid": [1]}', "expected a JSON list of impression ids"),
        ("[1, 2", "no JSON"),
        ("[7, 8]", "no impression of its first half is in"),
        (None, "no such file"),
    ],
)
def test_a_list_that_is_none_is_refused(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, path = write_mind(tmp_path / "raw"), tmp_path / "list.json"
    if content is not None:
        path.write_text(content)
    line = ["mind", "--raw", raw, "--halves", path, "--output", tmp_path / "o"]
    assert main([*map(str, line), *WORDS]) == 2
    assert f"{path}: {message}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_reads_another_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path, "--xmind", write_xmind(tmp_path / "xMIND/ron"))
    fields = "[{column: title_ron@words, length: 10}, {column: abstract_ron@words, length: 10}]"
    words = ["--data", "mind", "--data.folder", "tables", "--data.fields", fields]
    words += ["--model", "naml", "--exp", "tt", "--exp.train.epochs", "1"]
    assert worker.main([*words, "--embed.vocabulary", "words", "--exp.report", "false"]) == 0
