"""A run that saw less than one pass of its training rows says so wherever it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from legos.commands.main import main
from legos.commands.run import main as start
from legos.runs.passes import passes, short_trainings
from tests.tiny import tiny_tables

WARNING = "steps of one pass over the training rows"


def training(steps: int, whole: int = 100) -> dict[str, Any]:
    return {"steps": steps, "steps_per_pass": whole, "rows": 6400}


@pytest.mark.parametrize(("steps", "seen"), [(0, 0.0), (25, 0.25), (100, 1.0), (350, 3.5)])
def test_passes_are_steps_over_the_steps_of_one(steps: int, seen: float) -> None:
    assert passes(training(steps)) == seen


@pytest.mark.parametrize("said", [{}, {"steps": 3}, {"steps": 3, "steps_per_pass": 0}])
def test_a_training_without_such_a_number_is_not_judged(said: dict[str, Any]) -> None:
    assert passes(said) is None
    assert short_trainings({"ease": said}) == []


def test_models_of_as_many_steps_share_a_sentence() -> None:
    trainings = {"a": training(25), "b": training(100), "c": training(25), "d": training(0)}
    first, second = short_trainings(trainings)
    assert first.startswith("a, c: trained for 25 of the 100 steps of one pass")
    assert second.startswith("d: trained for 0 of the 100 steps of one pass")


@pytest.mark.slow
def test_a_run_of_few_steps_warns_on_the_terminal_in_its_report_and_in_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tiny_tables(tmp_path / "tables")
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> str:
        words = ["--data", "newsroom", "--model", "naml", "--exp", "tt", "--hidden_size", "8"]
        words += ["--data.folder", str(tables), "--data.fields", "[title@words, category]"]
        words += ["--exp.train.epochs", "1", "--exp.baselines", "[]", "--batch_size", "8", *more]
        assert start(words) == 0
        return " ".join(capsys.readouterr().out.split())

    whole, short = run(), run("--epoch_batch", "2", "--seed", "2")
    assert WARNING not in whole
    assert "next: train longer" not in whole
    assert "warning: naml: trained for 2 of the " in short
    assert "next: train longer; " in short

    assert main(["runs", "list", "--json"]) == 0
    listed = {each["run"]: each for each in json.loads(capsys.readouterr().out)}
    (barely,) = [each for each in listed.values() if each["passes"] < 1]
    assert WARNING in (Path(barely["folder"]) / "report.html").read_text(encoding="utf-8")
    assert main(["runs", "list"]) == 0
    states = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, each in listed.items():
        assert (f"finished, {each['passes']:.2f} passes" in states[name]) is (each is barely)
