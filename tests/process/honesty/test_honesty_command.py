"""The report with every data set: in the manifest, on the terminal, in files, in a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legos.data.honesty import Honesty, read_honesty
from legos.data.tables import Tables
from legos.errors import DataError
from legos.workplace.workplace import honesty_notices
from process.columns import ColumnReader
from process.honesty import Evidence, measure_honesty
from process.honesty.__main__ import build_parser, main
from process.mind import read_mind
from process.raw import TokenizerSpec
from process.tables import write_tables
from tests.process.mind_files import write_mind


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = write_mind(tmp_path_factory.mktemp("raw"))
    folder = raw / "tables"
    data = read_mind(raw / "train", raw / "dev", valid=raw / "dev")
    write_tables(data, folder, [TokenizerSpec("bert", "minilm")])
    return folder


def command(*words: str) -> None:
    main(build_parser().parse_args(list(words)))


def test_every_data_set_has_its_report_and_finished_tables_give_the_same(tables: Path) -> None:
    reader = ColumnReader(tables)
    kept = read_honesty(reader.manifest)
    assert kept == measure_honesty(Evidence.of_tables(reader))
    assert kept is not None
    assert kept.small_splits == {"train": 3, "valid": 2, "test": 2}
    assert kept.texts["abstract"].empty == 20.0


def test_the_command_prints_and_writes_and_leaves_the_tables_alone(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()}
    command("--data", str(tables), "--output", str(tmp_path / "h.json"))
    command("--data", str(tables), "--output", str(tmp_path / "h.html"))
    printed = capsys.readouterr().out
    assert "warning: split test has 2 impressions" in printed
    assert "next_id" in printed
    written = Honesty.model_validate_json((tmp_path / "h.json").read_text())
    assert written == read_honesty(ColumnReader(tables).manifest)
    page = (tmp_path / "h.html").read_text()
    assert "split test has 2 impressions" in page
    assert "next larger raw item id" in page
    assert "://" not in page
    assert {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()} == before


def test_another_format_and_a_folder_without_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.json or \.html"):
        command("--data", str(tmp_path), "--output", "report.pdf")
    with pytest.raises(DataError, match="tables"):
        command("--data", str(tmp_path))


def test_a_run_is_told_the_warnings_and_a_damaged_report_is_refused(tables: Path) -> None:
    opened = Tables.load(tables)
    lines = honesty_notices(opened)
    assert any("split test has 2 impressions" in line for line in lines)
    assert all(line.startswith(f"warning, data {opened.name}: ") for line in lines)
    without = Tables(tables, {k: v for k, v in opened.manifest.items() if k != "honesty"})
    assert honesty_notices(without) == []
    damaged = json.loads(json.dumps(opened.manifest))
    damaged["honesty"]["items"] = "many"
    with pytest.raises(DataError, match=r"honesty\.items"):
        honesty_notices(Tables(tables, damaged))
