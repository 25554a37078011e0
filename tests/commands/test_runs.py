"""``legos runs``: past runs are listed, shown, compared, removed; never one that is worked in."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from legos.commands.main import main
from legos.commands.run import main as run
from legos.files import hold
from legos.runs.past import PastRun
from tests.tiny import tiny_tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs on one data set, one on other impressions, one on the same ones anew."""
    folder = tmp_path_factory.mktemp("past")
    runs = {"tiny": ("naml", "nrms"), "other": ("naml",), "again": ("naml",)}
    for number, data in enumerate(("tiny", "other")):
        tiny_tables(folder / "data" / data, seed=number)
    shutil.copytree(folder / "data" / "tiny", folder / "data" / "again")
    manifest = folder / "data" / "again" / "manifest.json"
    manifest.write_text(re.sub(r'("fingerprint": ")\w', r"\1f", manifest.read_text()))
    before = Path.cwd()
    os.chdir(folder)
    try:
        for data, models in runs.items():
            (folder / "data" / data / "data.yaml").write_text(
                f"{{name: {data}, folder: x, fields: [title@words, category], history_length: 6}}"
            )
            for model in models:
                train(data, model)
        train("tiny", "naml", "--seed", "7")
    finally:
        os.chdir(before)
    return folder


def train(data: str, model: str, *more: str) -> None:
    words = ["--data", data, "--model", model, "--exp", "tt", "--hidden_size", "8"]
    words += ["--exp.train.epochs", "1", "--exp.report", "false", "--exp.baselines", "[]"]
    assert run([*words, *more]) == 0


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs, which may be changed; tables are those of the world."""
    shutil.copytree(world / "runs", tmp_path / "runs")
    (tmp_path / "data").symlink_to(world / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of(data: str, model: str, seed: int = 2023) -> Path:
    found = [PastRun(path) for path in Path("runs", data, model).iterdir()]
    (past,) = [each for each in found if each.seed == seed]
    return past.folder


def interrupted(folder: Path, days: float) -> None:
    """As if the run had been killed so long ago."""
    (folder / "results.json").unlink()
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - days * 86400,) * 2)


@pytest.fixture
def said(place: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``legos runs ...``; its output, or its error where it exits with 2."""

    def call(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["runs", *words]) == code
        caught = capsys.readouterr()
        return caught.out if code == 0 else caught.err

    return call


def test_a_list_has_a_line_a_run(said: Any) -> None:
    interrupted(folder_of("other", "naml"), 40)
    with hold(folder_of("tiny", "nrms") / "lock", lambda owner: AssertionError(owner)):  # type: ignore[arg-type,return-value]
        lines = said("list").splitlines()
    assert lines[0].split()[:5] == ["run", "data", "model", "seed", "GAUC"]
    assert len(lines) == 1 + 5 + 1
    (busy,) = [line for line in lines if "nrms" in line]
    assert f"running ({os.getpid()})" in busy
    (old,) = [line for line in lines if "other" in line]
    assert re.search(r"interrupted +40 d", old)
    assert sum("finished" in line for line in lines) == 3


def test_filters_and_orders(said: Any) -> None:
    lines = said("list", "--data", "tiny", "--sort", "GAUC").splitlines()[1:-1]
    values = [float(line.split()[4]) for line in lines]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    told = json.loads(said("list", "--model", "nrms", "--json"))
    assert [(each["data"], each["state"]) for each in told] == [("tiny", "finished")]
    assert told[0]["bytes"] > 10_000
    assert 0 < told[0]["metrics"]["test"]["GAUC"] < 1
    assert "did you mean 'nrms'" in said("list", "--model", "nmrs", code=2)
    assert "did you mean 'GAUC'" in said("list", "--sort", "GUAC", code=2)


def test_show_tells_settings_and_metrics(said: Any) -> None:
    folder = folder_of("tiny", "nrms")
    text = said("show", folder.name[:6])
    assert text.startswith(f"{folder}: finished")
    for told in ("attention · self_attention · dot", "lr 0.001, batch_size 64", "best epoch"):
        assert told in text
    assert re.search(r"^nrms +0\.\d{4}", text, re.MULTILINE)
    whole = json.loads(said("show", str(folder), "--json"))
    assert whole["config"]["model"]["name"] == "nrms"


def test_compare_tests_runs_on_the_same_impressions(said: Any, place: Path) -> None:
    runs = [folder_of("tiny", "nrms"), folder_of("tiny", "naml"), folder_of("tiny", "naml", 7)]
    text = said("compare", *map(str, runs), "--output", "c.json")
    assert "naml seed 7" in text
    rows = json.loads(Path("c.json").read_text())["splits"]["test"]["rows"]
    assert [row["name"] for row in rows] == ["nrms", "naml seed 2023", "naml seed 7"]
    arrays = [np.load(next((each / "diagnostics").glob("*/test/groups-GAUC.npy"))) for each in runs]
    ps = [ttest_rel(each, arrays[0], nan_policy="omit").pvalue for each in arrays[1:]]
    small, large = sorted(ps)
    holm = {small: min(1.0, 2 * small), large: min(1.0, max(2 * small, large))}
    for row, p in zip(rows[1:], ps, strict=True):
        assert row["p_values"]["GAUC"] == pytest.approx(holm[p])
        assert row["reference"] == "nrms"


@pytest.mark.parametrize("ending", ["md", "csv"])
def test_a_comparison_is_written_as_text(said: Any, ending: str) -> None:
    said("compare", "tiny/nrms", str(folder_of("tiny", "naml")), "--output", f"c.{ending}")
    assert "nrms" in Path(f"c.{ending}").read_text()


def test_tables_made_anew_with_the_same_impressions_are_compared(said: Any) -> None:
    naml = str(folder_of("tiny", "naml"))
    assert "naml" in said("compare", naml, "runs/again/naml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "data tiny and other have other candidates.offsets.npy, candidates"),
        ("ranking", "exp.evaluate.ranking is all and shown"),
        ("ranking", r"run --load \S+other/naml/\S+ --exp.evaluate.ranking all --exp.\S+ '\[.*GAUC"),
        ("unfinished", "interrupted, without test results to compare"),
        ("tables", "those of runs/tiny/naml/.* are not here: "),
        ("groups", "the runs have other numbers of groups"),
    ],
)
def test_runs_on_other_impressions_are_refused(
    said: Any, place: Path, change: str, message: str
) -> None:
    first, other = folder_of("tiny", "naml"), folder_of("other", "naml")
    results = json.loads((first / "results.json").read_text())
    if change == "ranking":
        for each in results["measurements"].values():
            each["settings"]["exp.evaluate.ranking"] = "all"
        (first / "results.json").write_text(json.dumps(results))
    if change == "unfinished":
        interrupted(other, 1)
    if change == "tables":
        (place / "data").unlink()
    if change == "groups":
        other = folder_of("tiny", "nrms")
        for path in other.glob("diagnostics/*/test/groups-*.npy"):
            np.save(path, np.load(path)[1:])
    assert re.search(message, said("compare", str(first), str(other), code=2))


def test_a_comparison_needs_two_runs(said: Any) -> None:
    assert "give two runs or more" in said("compare", "tiny/nrms", code=2)
    assert "given twice" in said("compare", "tiny/nrms", str(folder_of("tiny", "nrms")), code=2)
    assert "expected a name that ends in" in said(
        "compare", "tiny/nrms", "other", "--output", "c.txt", code=2
    )


def test_rm_asks_and_removes_whole_runs(
    said: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nrms = folder_of("tiny", "nrms")
    assert "this needs confirmation; give --yes" in said("rm", str(nrms), code=2)
    assert nrms.is_dir()
    monkeypatch.setattr("sys.stdin", Answer("n\n"))
    assert "nothing was removed" in said("rm", str(nrms))
    monkeypatch.setattr("sys.stdin", Answer("y\n"))
    assert "removed 1 run," in said("rm", str(nrms))
    assert not nrms.parent.exists()
    assert len(list(Path("runs/tiny/naml").iterdir())) == 2
    said("rm", "--yes", *map(str, Path("runs/tiny/naml").iterdir()))
    assert not Path("runs/tiny").exists()


class Answer:
    """A terminal at which somebody types."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


def test_a_run_that_is_worked_in_is_never_touched(said: Any) -> None:
    naml, nrms = folder_of("other", "naml"), folder_of("tiny", "nrms")
    interrupted(nrms, 99)
    with hold(nrms / "lock", lambda owner: AssertionError(owner)):  # type: ignore[arg-type,return-value]
        assert f"process {os.getpid()} is using it" in said(
            "rm", "--yes", str(naml), str(nrms), code=2
        )
        said("prune", "--yes", "--data", "tiny")
    assert naml.is_dir()
    assert (nrms / "checkpoints" / "last").is_dir()


def test_prune_frees_what_it_says(said: Any, place: Path) -> None:
    old, young = folder_of("other", "naml"), folder_of("tiny", "nrms")
    interrupted(old, 40)
    interrupted(young, 2)
    text = said("prune", "--dry-run")
    assert re.search(r"would free [\d.]+ KiB: 1 unfinished run and 3 last checkpoints", text)
    assert old.is_dir()
    freed = re.search(r"would free ([\d.]+ KiB)", text)
    assert freed is not None
    assert f"freed {freed[1]}" in said("prune", "--yes")
    assert not old.exists()
    kept = folder_of("tiny", "naml") / "checkpoints"
    assert [path.name for path in kept.iterdir()] == ["best"]
    assert (young / "checkpoints" / "last").is_dir()
    assert "nothing to remove" in said("prune")
    assert "removed" not in said("prune", "--days", "1", "--dry-run")
    train("tiny", "naml")  # finished, so nothing is missed


def test_words_that_are_no_numbers_are_refused(
    said: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected a number of days, such as 7" in said("prune", "--days", "soon", code=2)
    assert "legos runs lst: no such command; did you mean 'list'?" in said("lst", code=2)
