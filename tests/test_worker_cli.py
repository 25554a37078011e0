"""worker.py as a user meets it: help, lists, checks, mistakes and their exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

import worker
from legos.commands import run
from legos.config.variables import PUBLISHED
from legos.data.tables import Tables
from legos.errors import DataError
from legos.progress import announced
from legos.registry import predictors
from tests.tiny import tiny_tables

ROOT = Path(worker.__file__).parent
RUN = ["--data", "newsroom", "--model", "naml", "--exp", "train"]


def tiny_run(tables: Path) -> list[str]:
    fields = "[{column: title@words, length: 5}, category]"
    return [*RUN, "--data.folder", str(tables), "--data.fields", fields, "--hidden_size", "16"]


@pytest.mark.multiprocess
def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys, worker; worker.main(['--help']);"
        "slow = {'torch', 'pandas', 'pydantic', 'rich', 'transformers', 'accelerate'};"
        "print(sorted(slow & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_is_loading_until_the_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line about loading is never printed into what a run says, however long that takes."""
    tables, waiting = tiny_tables(tmp_path), []

    def announces() -> bool:
        every = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
        return not all(each.finished.is_set() for each in every)

    def load(folder: Path) -> Tables:
        waiting.append(announces())
        return read(folder)

    read = Tables.load
    monkeypatch.setattr(Tables, "load", load)
    monkeypatch.setattr("legos.progress.announced", partial(announced, after=600))
    monkeypatch.setattr("legos.modes.main.run", lambda *_, **__: waiting.append(announces()))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert worker.main(tiny_run(tables)) == 0
    assert waiting == [True, False]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["--data", "x", "--help"]) == 0
    text = capsys.readouterr().out
    for name, variable in PUBLISHED.items():
        assert f"--{name} " in text
        assert variable.meaning in text
    assert "python worker.py --data config/data/newsroom.yaml" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_examples_of_the_help_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    from legos.config.load import load_run_config

    worker.main(["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line.split()[2:] for line in lines if line.startswith("python worker.py --data ")]
    examples = [words for words in examples if "YAML" not in words]
    assert len(examples) == 6
    for words in examples:
        if "--impressions" in words:
            words = words[: words.index("--impressions")]
        assert load_run_config(words).data.name in ("newsroom", "mind-small")


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main([]) == 0
    assert "usage:" in capsys.readouterr().out


def test_lists_have_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(["--list"]) == 0
    text = capsys.readouterr().out
    for line in ("  cnn ", "  self_attention ", "  mlp ", "  newsroom ", "  tt-naml ", "  null "):
        assert line in text
    assert worker.main(["--list", "predictor"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(predictors.names())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "modle"], "--list modle: no such family; did you mean 'model'?"),
        (["--data", "newsroom", "--list"], "--list takes at most one family"),
        (["--list", "model", "item"], "--list takes at most one family"),
        (["--prune"], "--prune needs --exp config/exp/cache.yaml"),
        (["--exp", "cache", "--list", "--verify"], "--list, --verify: give only one of them"),
        (["--data", "newsrom"], "did you mean 'newsroom'"),
        ([*RUN, "--save"], "--save: needs a path"),
        ([*RUN, "--save", "README.md"], "--save README.md: already exists"),
        (["--config", "config/model/naml.yaml"], "expected sections data, model, exp, embed"),
        ([*RUN, "--lrr", "1"], "did you mean 'lr'"),
        ([*RUN, "--news", "x.tsv"], "--news needs --impressions"),
        ([*RUN, "--impressions"], "--impressions: needs a path"),
        ([*RUN, "--impressions", "new"], "exp.mode is 'train'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(words) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith("error: ")
    assert message in caught.err
    assert "Traceback" not in caught.err


def test_tables_that_are_not_there_are_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main([*RUN, "--data.folder", str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(errand: run.Errand) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_do", interrupted)
    assert worker.main(RUN) == 130
    assert "rerun the same command" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(errand: run.Errand) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(run, "_do", broken)
    assert worker.main(RUN) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: RuntimeError: bug (tests/test_worker_cli.py:")
    assert told.count("\n") == 1
    assert worker.main([*RUN, "--traceback"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_check_shows_settings_without_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main([*RUN, "--check", "--data.folder", str(tmp_path / "none")]) == 0
    text = capsys.readouterr().out
    assert "model.item.kernel_size" in text
    assert "no tables yet" in text


def test_check_shows_shapes_parameters_and_memory_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tiny_tables(tmp_path / "tables")
    monkeypatch.chdir(tmp_path)
    assert worker.main([*tiny_run(tables), "--check"]) == 0
    text = capsys.readouterr().out
    assert "item encoder" in text
    assert re.search(r"candidates \(B, 1\+K\) +\(64, 5\)", text)
    assert "steps per epoch" in text
    assert "memory on" in text
    assert "runs/newsroom/naml/" in text
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_check_refuses_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tiny_tables(tmp_path / "tables")
    words = [*tiny_run(tables), "--check", "--data.splits.valid", "vald"]
    assert worker.main(words) == 2
    told = capsys.readouterr()
    assert "did you mean 'valid'" in told.err
    assert told.out == ""


def test_check_shows_an_error_of_the_bricks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that is found after settings and shapes have been computed."""
    tables = tiny_tables(tmp_path / "tables")

    def refuse(*_: object) -> NoReturn:
        raise DataError("the bricks do not fit")

    monkeypatch.setattr("legos.modes.check.run_folder", refuse)
    assert worker.main([*tiny_run(tables), "--check"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: the bricks do not fit\n")


@pytest.mark.multiprocess
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_settings_that_do_not_fit_the_tables_are_refused_before_a_run_is_imported(
    check: list[str], tmp_path: Path
) -> None:
    words = [*tiny_run(tiny_tables(tmp_path)), *check, "--data.splits.valid", "vald"]
    code = f"import sys, worker; print(worker.main({words!r}), 'legos.workplace' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["2 False"]


def test_new_impressions_of_a_folder_without_tables_are_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*RUN, "--exp.mode", "test", "--impressions", str(tmp_path)]
    assert worker.main([*words, "--data.folder", str(tmp_path / "none")]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_a_data_error_is_a_users_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bad_data(errand: run.Errand) -> None:
        raise DataError("news.tsv:3: 7 columns, expected 8")

    monkeypatch.setattr(run, "_do", bad_data)
    assert worker.main(RUN) == 2
    assert capsys.readouterr().err == "error: news.tsv:3: 7 columns, expected 8\n"


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_bricks_that_do_not_fit_are_refused_with_the_reason(
    check: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", "newsroom", "--model", "naml", "--exp", "tt", "--model.user"]
    assert worker.main([*words, "{name: sequence}", *check]) == 2
    error = capsys.readouterr().err
    assert error.endswith(
        "model: predictor dot scores one vector a user or one vector a user and candidate, but "
        "user encoder sequence gives the whole history\n"
    )
