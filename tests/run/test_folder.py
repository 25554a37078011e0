"""Run folders: what names them, who may work in them, what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from legos.config.train_schema import TrainConfig
from legos.errors import LegosError
from legos.run.folder import RunFolder, run_id

RESOLVED: dict[str, Any] = {
    "data": {"name": "tiny", "folder": "/somewhere", "history_length": 5},
    "model": {"hidden_size": 64},
    "embed": {"source": "random"},
    "exp": {
        "mode": "train",
        "device": "cpu",
        "runs_folder": "runs",
        "train": {"seed": 1, "lr": 0.001, "checkpoint_minutes": 5},
        "evaluate": {"metrics": ["GAUC"], "page_size": 512},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(RESOLVED))
    section = copy
    *parents, key = path.split(".")
    for parent in parents:
        section = section[parent]
    section[key] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("exp.mode", "test"),
        ("exp.device", "cuda"),
        ("exp.runs_folder", "elsewhere"),
        ("exp.train.checkpoint_minutes", 1),
        ("exp.evaluate.page_size", 64),
        ("data.folder", "/moved"),
    ],
)
def test_what_does_not_change_results_does_not_change_the_id(path: str, value: Any) -> None:
    assert run_id(changed(path, value), "f") == run_id(RESOLVED, "f")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("exp.train.seed", 2),
        ("exp.train.lr", 0.01),
        ("model.hidden_size", 32),
        ("data.history_length", 9),
        ("exp.evaluate.metrics", ["MRR"]),
    ],
)
def test_what_changes_results_changes_the_id(path: str, value: Any) -> None:
    assert run_id(changed(path, value), "f") != run_id(RESOLVED, "f")


def test_settings_that_came_later_keep_the_id_at_their_defaults() -> None:
    train = TrainConfig()
    for key in ("history", "margin", "negative_weight"):
        same = changed(f"exp.train.{key}", getattr(train, key))
        assert run_id(same, "f") == run_id(RESOLVED, "f")
    assert run_id(changed("exp.train.margin", 0.5), "f") != run_id(RESOLVED, "f")


def test_other_data_or_more_processes_change_the_id() -> None:
    ids = {run_id(RESOLVED, "f"), run_id(RESOLVED, "g"), run_id(RESOLVED, "f", num_processes=2)}
    assert len(ids) == 3
    assert all(len(name) == 12 for name in ids)


def test_an_id_leaves_the_configuration_as_it_was() -> None:
    before = json.dumps(RESOLVED)
    run_id(RESOLVED, "f")
    assert json.dumps(RESOLVED) == before


HOLDER = """
import sys, time
from pathlib import Path
from legos.run.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_work_in_one_folder_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(LegosError, match=f"process {holder.pid} is working"), folder.lock():
            pass
        holder.kill()
    with folder.lock():
        assert folder.path.is_dir()


def test_a_run_is_finished_once_its_results_are_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.results() is None
    folder.write_results({"splits": {}})
    assert folder.results() == {"splits": {}}


def test_a_folder_says_its_versions_without_paths_of_the_machine(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.describe(RESOLVED)
    assert json.loads((folder.path / "config.json").read_text()) == RESOLVED
    versions = (folder.path / "versions.json").read_text()
    assert {"legos", "python", "torch"} <= json.loads(versions).keys()
    assert str(Path.home()) not in versions
