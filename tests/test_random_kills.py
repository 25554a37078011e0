"""The watch over random kills sees what it should; every long command stands some."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.long_commands import COMMANDS
from tests.random_kills import difference, killed_at_random, left_in

_CARELESS = """
import time
from pathlib import Path

with Path("lines.txt").open("a") as file:
    for number in range(20):
        file.write(f"{number}\\n")
        file.flush()
        time.sleep(0.05)
"""


@pytest.mark.multiprocess
def test_a_command_that_begins_again_where_it_had_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(folder: Path, stack: ExitStack) -> list[str]:
        (folder / "careless.py").write_text(_CARELESS)
        return ["careless.py"]

    monkeypatch.setitem(COMMANDS, "careless", careless)
    tally = killed_at_random(["careless"], kills=4, seed=1, place=tmp_path)["careless"]
    assert tally.kills == 4
    assert tally.faults
    assert all("differs: lines.txt" in fault for fault in tally.faults)


def test_times_are_no_difference_and_left_over_files_are(tmp_path: Path) -> None:
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(f'{{"seconds": {seconds}, "auc": 0.5}}')
    one, two = left_in(tmp_path / "one"), left_in(tmp_path / "two")
    assert difference(one, two) == ""
    (tmp_path / "two" / ".tables.lock").touch()
    (tmp_path / "two" / "results.json").write_text('{"seconds": 1.0, "auc": 0.6}')
    found = difference(left_in(tmp_path / "two"), one)
    assert found == "left over: .tables.lock; differs: results.json"
    assert difference(one, left_in(tmp_path / "two")).startswith("missing: .tables.lock")


@pytest.mark.nightly
@pytest.mark.multiprocess
@pytest.mark.parametrize("name", COMMANDS)
def test_a_long_command_killed_again_and_again_ends_as_if_left_alone(
    name: str, tmp_path: Path
) -> None:
    tally = killed_at_random([name], kills=12, seed=1, place=tmp_path)[name]
    assert not tally.faults
