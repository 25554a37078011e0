"""Run folders: what names them, who may work in them, what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from legos.config.saved import read_description
from legos.errors import DataError, LegosError
from legos.runs.folder import RunFolder
from tests.modes.tiny_config import tiny_config

HOLDER = """
import sys, time
from pathlib import Path
from legos.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.mark.multiprocess
def test_two_processes_cannot_work_in_one_folder_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(LegosError, match=f"process {holder.pid} is using"), folder.lock():
            pass
        holder.kill()
    with folder.lock():
        assert folder.path.is_dir()


def test_a_run_is_finished_once_its_results_are_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.results() is None
    results = {"run": "0", "data": "tiny", "fingerprint": "0", "model": "nrms", "seed": 1}
    results |= {"parameters": 9, "processes": 1, "splits": {}}
    folder.write_results(results)
    assert folder.results() == results
    folder.write_results({**results, "seed": "one"})
    with pytest.raises(DataError, match=r"results.json: seed: expected a valid integer, found"):
        folder.results()


@pytest.mark.parametrize("shown", [{}, {"measurement": "b"}])
def test_results_show_one_of_their_measurements(tmp_path: Path, shown: dict[str, str]) -> None:
    folder = RunFolder(tmp_path / "run")
    results = {"run": "0", "data": "tiny", "fingerprint": "0", "model": "nrms", "seed": 1}
    results |= {
        "parameters": 9,
        "processes": 1,
        "splits": {},
        "measurements": {"a": {"splits": {}}},
    }
    folder.write_results({**results, "measurement": "a"})
    folder.results()
    folder.write_results({**results, **shown})
    with pytest.raises(DataError, match=r"measurement: '.*' is not among measurements \(a\)"):
        folder.results()


def test_a_folder_says_its_versions_without_paths_of_the_machine(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = tiny_config(Path("tables"), Path("runs"))
    folder.describe(config, {"data.folder": "f"})
    found = read_description(folder.path)
    assert (found.run, found.sources) == ("run", {"data.folder": "f"})
    assert found.config == config
    versions = (folder.path / "versions.json").read_text()
    assert {"legos", "python", "torch"} <= json.loads(versions).keys()
    assert str(Path.home()) not in versions
