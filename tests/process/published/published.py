"""Tables of a published folder, and the command that is printed behind them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from legos.commands.main import main
from process.columns import ColumnReader

QUICK = ("--tokenizer", "words=words")


def build(folder: Path, output: Path, *words: str) -> ColumnReader:
    """Run ``legos published``; the texts are cut by their own words, which is quick."""
    assert main(["published", str(folder), "--output", str(output), *QUICK, *words]) == 0
    return ColumnReader(output)


def refused(folder: Path, output: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error of ``legos published``."""
    capsys.readouterr()
    assert main(["published", str(folder), "--output", str(output), *QUICK, *words]) == 2
    return capsys.readouterr().err


def run_printed(output: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Train by the command that ``legos published`` printed last, perhaps with ``words``."""
    told = capsys.readouterr().out.strip().splitlines()[-1].strip()
    command = told[told.index("legos run --data ") :]
    assert command == f"legos run --data {shlex.quote(output.as_posix())}"
    assert main([*shlex.split(command)[1:], *words]) == 0


def texts(tables: ColumnReader, field: str) -> dict[str, str]:
    """Item id -> its text."""
    return dict(zip(tables.vocabulary("item_id"), tables.texts(field), strict=True))
