"""The table writer: what lies on disk, when it is rewritten, and that it is whole or not there."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.data.tables import Tables
from legos.errors import DataError
from process.mind import read_mind
from process.raw import Impressions, RawData, TokenizerSpec
from process.tables import write_tables
from tests.process.mind_files import write_mind

WORDS = [TokenizerSpec("words", "words")]


@pytest.fixture
def raw(tmp_path: Path) -> RawData:
    folder = write_mind(tmp_path / "raw")
    return read_mind(folder / "train", folder / "dev", name="tiny")


def lists(tables: Tables, table: str, column: str) -> list[list[int]]:
    found = tables.lists(table, column)
    return [
        found.values[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)
    ]


def test_every_column_holds_what_was_read(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    tables = Tables.load(tmp_path / "tables")
    assert tables.splits == ["train", "valid", "test"]
    assert tables.vocabulary("item_id") == ["N1", "N2", "N3", "N4", "N5"]
    assert tables.vocabulary("user_id") == ["U1", "U2", "U3"]
    assert tables.vocabulary("category") == ["<unknown>", "sports", "finance", "music"]
    assert tables.scalar("items", "category").tolist() == [1, 1, 2, 3, 2]
    assert tables.scalar("items", "subcategory").tolist() == [1, 2, 3, 0, 3]
    assert tables.texts("title")[1] == '"Out" she said'
    assert lists(tables, "train", "candidates") == [[1, 2], [0, 3, 2]]
    assert lists(tables, "train", "labels") == [[1, 0], [0, 1, 0]]
    assert tables.scalar("test", "user_id").tolist() == [0, 2]
    assert tables.vocabulary("impression_id@train") == ["1", "2"]
    words = tables.vocabulary("words")
    assert words[0] == "<unknown>"
    title = [words[token] for token in lists(tables, "items", "title@words")[1]]
    assert title == ['"', "out", '"', "she", "said"]
    assert lists(tables, "items", "abstract@words")[1] == []


def test_equal_histories_of_a_user_are_stored_once(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    tables = Tables.load(tmp_path / "tables")
    assert tables.scalar("histories", "user_id").tolist() == [0, 1, 0, 2]
    assert lists(tables, "histories", "items") == [[0, 2], [], [0, 2, 1], [3, 3]]
    states = [tables.scalar(split, "history").tolist() for split in tables.splits]
    assert states == [[0, 1], [0], [2, 3]]


def test_columns_have_the_types_of_the_design(raw: RawData, tmp_path: Path) -> None:
    oracle = np.linspace(0, 1, 5, dtype=np.float32)
    raw.splits["test"] = replace(raw.splits["test"], oracle=oracle)
    manifest = write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    columns = manifest["tables"]["test"]["columns"]
    types = {name: (column["kind"], column["dtype"]) for name, column in columns.items()}
    assert types == {
        "impression_id": ("scalar", "int32"),
        "user_id": ("scalar", "int32"),
        "history": ("scalar", "int32"),
        "time": ("scalar", "int64"),
        "candidates": ("list", "int32"),
        "labels": ("list", "int8"),
        "oracle": ("list", "float32"),
    }
    assert (
        Tables.load(tmp_path / "tables").lists("test", "oracle").values.tolist() == oracle.tolist()
    )
    assert manifest["fields"] == {
        "title": {"kind": "text", "tokenizers": ["words"]},
        "abstract": {"kind": "text", "tokenizers": ["words"]},
        "category": {"kind": "category"},
        "subcategory": {"kind": "category"},
    }


def test_the_summary_counts_what_can_be_counted_by_hand(raw: RawData, tmp_path: Path) -> None:
    summary = write_tables(raw, tmp_path / "tables", WORDS, unitok=False)["summary"]
    assert (summary["items"], summary["users"], summary["history_states"]) == (5, 3, 4)
    test = summary["splits"]["test"]
    assert (test["impressions"], test["candidates"], test["clicks"]) == (2, 5, 2)
    assert test["cold_candidates_percent"] == 40.0, "N5, shown twice of five, is not in train"
    assert test["cold_clicks_percent"] == 50.0
    assert test["unread_candidates_percent"] == 40.0
    assert test["unread_clicks_percent"] == 50.0
    valid = summary["splits"]["valid"]
    assert (valid["cold_clicks_percent"], valid["unread_clicks_percent"]) == (0.0, 0.0)
    assert summary["splits"]["train"]["empty_histories"] == 1
    assert summary["text"]["abstract@words"]["empty"] == 1
    assert summary["text"]["title@words"]["tokens"]["p100"] == 5


def test_the_summary_is_printed(
    raw: RawData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(raw, tmp_path / "tables", WORDS, unitok=False)
    printed = capsys.readouterr().out
    for expected in ("5 items", "3 users", "cold", "title@words", "news without abstract: 1"):
        assert expected in printed


def test_the_same_input_gives_the_same_fingerprint(raw: RawData, tmp_path: Path) -> None:
    first = write_tables(raw, tmp_path / "a", WORDS)
    second = write_tables(raw, tmp_path / "b", WORDS)
    assert first["fingerprint"] == second["fingerprint"]
    raw.splits["test"].labels[0] = 0
    assert write_tables(raw, tmp_path / "c", WORDS)["fingerprint"] != first["fingerprint"]


def test_finished_tables_are_not_made_again(
    raw: RawData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_tables(raw, tmp_path / "tables", WORDS)
    written = (tmp_path / "tables" / "manifest.json").stat().st_mtime_ns
    assert write_tables(raw, tmp_path / "tables", WORDS) == first
    assert (tmp_path / "tables" / "manifest.json").stat().st_mtime_ns == written
    assert "up to date" in capsys.readouterr().out


def test_other_settings_or_sources_need_force(raw: RawData, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    write_tables(raw, folder, WORDS)
    with pytest.raises(DataError, match=r"made with other tokenizers; add --force"):
        write_tables(raw, folder, [TokenizerSpec("other", "words")])
    assert Tables.load(folder).has("items", "title@words")
    raw.sources[0].write_text(raw.sources[0].read_text().replace("cup", "mug"))
    with pytest.raises(DataError, match=r"made with other source files; add --force"):
        write_tables(raw, folder, WORDS)
    write_tables(raw, folder, [TokenizerSpec("other", "words")], force=True)
    assert Tables.load(folder).has("items", "title@other")
    assert not Tables.load(folder).has("items", "title@words")


def test_a_folder_that_holds_something_else_is_never_replaced(raw: RawData, tmp_path: Path) -> None:
    keep = tmp_path / "home" / "letter.txt"
    keep.parent.mkdir()
    keep.write_text("dear")
    with pytest.raises(DataError, match=r"home: exists and holds no tables"):
        write_tables(raw, tmp_path / "home", WORDS, force=True)
    assert keep.read_text() == "dear"


def test_a_full_disk_leaves_nothing_behind(
    raw: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "tables"
    calls = []

    header = np.lib.format.write_array_header_1_0

    def full(*args: Any, **settings: Any) -> None:
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        header(*args, **settings)

    monkeypatch.setattr("legos.files.np.lib.format.write_array_header_1_0", full)
    with pytest.raises(DataError, match=r"tables: the disk is full .*nothing was left behind"):
        write_tables(raw, folder, WORDS)
    assert list(folder.parent.iterdir()) == []


def test_a_full_disk_keeps_the_old_tables(
    raw: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tables"
    old = write_tables(raw, folder, WORDS)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("process.columns._dump_columns", full)
    with pytest.raises(DataError, match="the disk is full"):
        write_tables(raw, folder, [TokenizerSpec("other", "words")], force=True)
    assert Tables.load(folder).fingerprint == old["fingerprint"]


KILLED = """
import os, sys
from pathlib import Path
import process.columns
from process.mind import read_mind
from process.raw import TokenizerSpec
from process.tables import write_tables
raw, output = Path(sys.argv[1]), Path(sys.argv[2])
process.columns.ColumnWriter.manifest = lambda *_, **__: os._exit(9)
write_tables(read_mind(raw / "train", raw / "dev"), output, [TokenizerSpec("words", "words")])
"""


@pytest.mark.slow
def test_a_kill_leaves_no_tables_and_the_next_start_cleans_up(raw: RawData, tmp_path: Path) -> None:
    output = tmp_path / "out" / "tables"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "raw"), str(output)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == 9
    assert not output.exists()
    left = {path.suffix for path in output.parent.iterdir()}
    assert left == {".part", ".lock"}, "the part that the dead run had written, and its lock"
    write_tables(raw, output, WORDS)
    assert [path.name for path in output.parent.iterdir()] == ["tables"]


BAD = {
    "an item twice": ("item id 'N1' occurs twice", lambda raw: _set_items(raw, "N1")),
    "a user twice": ("user id 'U1' occurs twice", lambda raw: replace(raw, users=["U1"] * 3)),
    "rows beyond the items": (
        "candidate_values holds rows outside 0 to 4",
        lambda raw: _split(raw, 9),
    ),
    "a split called users": ("split 'users' cannot be used", lambda raw: _rename(raw, "users")),
    "a split with a slash": ("split '../x' cannot be used", lambda raw: _rename(raw, "../x")),
}


def _set_items(raw: RawData, first: str) -> RawData:
    return replace(raw, items=raw.items.assign(item_id=[first] * len(raw.items)))


def _split(raw: RawData, item: int) -> RawData:
    train = raw.splits["train"]
    values = np.full_like(train.candidate_values, item)
    return replace(raw, splits={"train": replace(train, candidate_values=values)})


def _rename(raw: RawData, name: str) -> RawData:
    return replace(raw, splits={**raw.splits, name: raw.splits["train"]})


@pytest.mark.parametrize("fault", BAD)
def test_data_that_cannot_be_tables_is_refused(raw: RawData, tmp_path: Path, fault: str) -> None:
    message, spoil = BAD[fault]
    with pytest.raises(DataError, match=message):
        write_tables(spoil(raw), tmp_path / "tables", WORDS)
    assert not (tmp_path / "tables").exists()


def test_a_tokenizer_cannot_take_the_name_of_another_vocabulary(
    raw: RawData, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--tokenizer category=words: the name is that of another"):
        write_tables(raw, tmp_path / "tables", [TokenizerSpec("category", "words")])


def test_the_manifest_names_and_hashes_its_sources(raw: RawData, tmp_path: Path) -> None:
    write_tables(raw, tmp_path / "tables", WORDS)
    manifest = json.loads((tmp_path / "tables" / "manifest.json").read_text())
    assert [Path(source["path"]).name for source in manifest["sources"]] == [
        *["news.tsv"] * 2,
        *["behaviors.tsv"] * 2,
    ]
    assert all(len(source["sha256"]) == 64 for source in manifest["sources"])
    assert all(name.startswith("columns/") for name in manifest["files"])


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.integers(0, 4), max_size=5),
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=4),
        st.integers(-1, 2**33),
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_any_impressions_survive_the_disk(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, list[int], list[tuple[int, int]], int]],
) -> None:
    folder = tmp_path_factory.mktemp("round-trip")
    write_mind(folder / "raw")
    raw = read_mind(folder / "raw" / "train", folder / "raw" / "dev")
    histories = [history for _, history, _, _ in rows]
    shown = [pairs for _, _, pairs, _ in rows]
    part = Impressions(
        impression_id=np.array([f"i{n}" for n in range(len(rows))], dtype=object),
        user=np.array([user for user, _, _, _ in rows], dtype=np.int32),
        time=np.array([time for _, _, _, time in rows]),
        history_values=np.array(
            [item for history in histories for item in history], dtype=np.int32
        ),
        history_offsets=np.cumsum([0, *map(len, histories)]),
        candidate_values=np.array([item for pairs in shown for item, _ in pairs], dtype=np.int32),
        candidate_offsets=np.cumsum([0, *map(len, shown)]),
        labels=np.array([label for pairs in shown for _, label in pairs], dtype=np.int8),
    )
    write_tables(replace(raw, splits={"train": part}), folder / "tables", WORDS, unitok=False)
    tables = Tables.load(folder / "tables")
    states = tables.scalar("train", "history").tolist()
    stored = lists(tables, "histories", "items")
    assert [stored[state] for state in states] == histories
    assert tables.scalar("histories", "user_id")[states].tolist() == part.user.tolist()
    distinct = {(user, tuple(history)) for user, history, _, _ in rows}
    assert len(stored) == len(distinct)
    assert lists(tables, "train", "candidates") == [[item for item, _ in pairs] for pairs in shown]
    assert tables.scalar("train", "time").tolist() == part.time.tolist()
