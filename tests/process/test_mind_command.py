"""``python -m process.mind`` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from legos.data.tables import Tables
from process.command import run_cli
from process.mind.__main__ import build_parser, main
from tests.process.mind_files import DEV, write_lines, write_mind

ROOT = Path(__file__).parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["process.mind", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_cli(main, build_parser())
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_help_teaches_layout_and_examples(help_of: Callable[[str], str]) -> None:
    shown = help_of("process.mind")
    for expected in ("FOLDER/train/", "examples:", "--unknown-candidates", "last day of train"):
        assert expected in shown


@pytest.mark.slow
def test_raw_folders_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mind(tmp_path / "raw")
    code = run(
        monkeypatch,
        *("--raw", tmp_path / "raw", "--output", tmp_path / "tables", "--name", "small"),
        *("--tokenizer", "bert=minilm", "--tokenizer", "words=words"),
    )
    assert code == 0
    tables = Tables.load(tmp_path / "tables")
    assert tables.name == "small"
    assert tables.has("items", "title@bert")
    assert tables.has("items", "abstract@words")
    assert (tmp_path / "tables/unitok/train/data.pkl").is_file()


def test_explicit_folders_become_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_mind(tmp_path / "raw")
    write_lines(raw / "uniform" / "behaviors.tsv", DEV)
    code = run(
        monkeypatch,
        *("--train", raw / "train", "--valid", raw / "dev", "--test", raw / "dev"),
        *("--split", f"test_uniform={raw / 'uniform'}", "--news", raw / "train/news.tsv"),
        *("--output", tmp_path / "tables", "--tokenizer", "words=words", "--no-unitok"),
    )
    assert code == 0
    tables = Tables.load(tmp_path / "tables")
    assert tables.splits == ["train", "valid", "test", "test_uniform"]
    assert len(tables.scalar("train", "user_id")) == 3


MISTAKES = {
    "neither raw nor train": ((), "give either --raw FOLDER"),
    "raw is missing": (("--raw", "nowhere"), "nowhere/train/behaviors.tsv: no such file"),
    "a tokenizer without source": (("--raw", "x", "--tokenizer", "bert"), "expected NAME=SOURCE"),
    "a tokenizer twice": (
        ("--raw", "x", "--tokenizer", "a=words", "--tokenizer", "a=words"),
        "the name 'a' is given twice",
    ),
    "a split without folder": (("--raw", "x", "--split", "uniform"), "expected NAME=FOLDER"),
    "a split called test": (("--train", "x", "--split", "test=x"), "--test FOLDER"),
    "test with raw": (("--raw", "x", "--test", "y"), "--test needs --train"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    arguments, message = MISTAKES[mistake]
    assert run(monkeypatch, *arguments, "--output", tmp_path / "tables") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert not (tmp_path / "tables").exists()


def test_an_output_that_cannot_be_written_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mind(tmp_path / "raw")
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "--raw", tmp_path / "raw", "--output", tmp_path / "file/tables") == 2
    assert "file" in capsys.readouterr().err


SLOW = """
import time, process.columns
from process.command import run_cli
from process.mind.__main__ import build_parser, main
def wait(*_, **__):
    print("writing", flush=True)
    time.sleep(60)
process.columns.ColumnWriter.manifest = wait
run_cli(main, build_parser())
"""


@pytest.mark.multiprocess
def test_ctrl_c_exits_130_and_leaves_nothing(tmp_path: Path) -> None:
    write_mind(tmp_path / "raw")
    arguments = ["--raw", str(tmp_path / "raw"), "--output", str(tmp_path / "out/tables")]
    command = [sys.executable, "-c", SLOW, *arguments, "--tokenizer", "words=words"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in error
    assert list((tmp_path / "out").iterdir()) == []
