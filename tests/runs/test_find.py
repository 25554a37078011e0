"""A run is found by its folder, by what lies around it, and by the first digits of its id."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from legos.errors import CheckpointError
from legos.runs.find import all_runs, find_run


def write_run(folder: Path, age: int, *, trained: bool = True) -> Path:
    """As much of a run as finding reads; ``age`` in seconds before 2001."""
    best = folder / "checkpoints" / "best"
    best.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if trained:
        (best / "state.json").write_text("{}")
    os.utime(folder / "config.json", (1e9 - age, 1e9 - age))
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory with four runs of two data sets."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/shop/naml/aaaa00000000"), 30)
    write_run(Path("runs/shop/naml/aaab00000000"), 20)
    write_run(Path("runs/shop/nrms/bbbb00000000"), 10, trained=False)
    write_run(Path("runs/news/naml/cccc00000000"), 0)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("runs/shop/naml/aaaa00000000", "aaaa"),
        ("runs/shop/naml/aaaa00000000/checkpoints/best", "aaaa"),
        ("runs/shop/naml", "aaab"),
        ("shop/naml", "aaab"),
        ("runs/shop", "bbbb"),
        ("runs", "cccc"),
        ("aaab", "aaab"),
        ("c", "cccc"),
    ],
)
def test_a_run_by_what_somebody_types(text: str, name: str) -> None:
    assert find_run(text).name.startswith(name)


def test_only_trained_ones_where_only_they_will_do() -> None:
    assert find_run("runs/shop", trained=True).name == "aaab00000000"
    with pytest.raises(CheckpointError, match="no trained model in its 1 runs"):
        find_run("runs/shop/nrms", trained=True)


def test_runs_of_home_are_found_from_anywhere(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("LEGOS_HOME", str(place))
    write_run(Path("runs/shop/naml/aaaa11111111"), 5)
    assert find_run("cccc") == place / "runs/news/naml/cccc00000000"
    assert find_run("runs/news/naml").name == "cccc00000000"
    assert [run.name[:6] for run in all_runs()] == [
        "cccc00",
        "aaaa11",
        "bbbb00",
        "aaab00",
        "aaaa00",
    ]


def test_several_ids_are_listed() -> None:
    with pytest.raises(CheckpointError, match="aaa: 2 run ids start with this") as error:
        find_run("aaa")
    assert "  runs/shop/naml/aaaa00000000" in str(error.value)


@pytest.mark.parametrize("text", ["zzzz", "runs/shop/bert", "runs/shop/naml/aaaa00000001"])
def test_no_such_run_names_the_newest(text: str) -> None:
    with pytest.raises(CheckpointError, match="the newest:\n  runs/news/naml/cccc00000000"):
        find_run(text)


def test_a_folder_without_runs_says_so(place: Path) -> None:
    (place / "empty").mkdir()
    with pytest.raises(CheckpointError, match="neither a run folder nor a folder of runs"):
        find_run("empty")
