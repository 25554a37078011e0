"""Caches and vectors that processes share: the bytes of one; errors, kills and resuming."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from rich.console import Console

from legos.files import sha256_of_file, sha256_of_text
from legos.lm.hidden_files import lock
from legos.lm.hidden_writer import write_parts
from legos.lm.verify import VERIFIED
from legos.progress import progress_bar
from legos.sharing import ALONE
from tests.lm.cached import PARTS, TOKENS, Counted, cache
from tests.lm.shared_items import PAGES, SMALL, everything, write
from tests.tiny import tiny_tables
from tests.training.two_processes import ends_of_two, in_two_processes

COMMAND = ["-m", "tests.lm.shared_items"]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the lock, whose content is a process."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "lock")
    return {file.relative_to(folder).as_posix(): content(file) for file in files}


def content(file: Path) -> str:
    """SHA-256 of a file; safetensors writes metadata in an order that each process draws."""
    if file.name == VERIFIED:  # its rounding is another in each process
        return ""
    if file.suffix != ".safetensors":
        return sha256_of_file(file)
    whole = file.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    header = json.dumps(json.loads(whole[8:begin]), sort_keys=True)
    return sha256_of_text(f"{header} {whole[begin:].hex()}")


def pages_of(folder: Path) -> int:
    """How many pages of the small cache are finished; it has no manifest."""
    files = [file.name for file in folder.rglob("*") if file.parent.name == PARTS[-1].name]
    assert "manifest.json" not in files
    return sum(name.endswith(".json") for name in files)


@pytest.mark.multiprocess
def test_two_processes_write_the_bytes_of_one_and_go_on_where_one_stopped(tmp_path: Path) -> None:
    tables, one, two = tiny_tables(tmp_path / "tables"), tmp_path / "one", tmp_path / "two"
    everything(tables, one, ALONE)
    for begun in range(PAGES):
        write(one / f"begun{begun}", ALONE)
        with pytest.raises(KeyboardInterrupt):
            write_parts(
                cache(two / f"begun{begun}"),
                TOKENS,
                PARTS,
                Counted(begun),
                dtype="fp32",
                shard_bytes=SMALL,
            )
    with lock(cache(two / "locked").path):
        in_two_processes([*COMMAND, str(tables), str(two)])
    assert pages_of(two / "broken") == 3
    found, expected = contents(two), contents(one)
    assert sum(name.startswith("cache/") and name.endswith(".npy") for name in expected) > 9
    assert {name: found.get(name) for name in expected} == expected
    assert all(name.startswith(("broken/", "locked/")) for name in found.keys() - expected.keys())
    assert len(write(two / "broken", ALONE)) == PAGES - 3
    assert contents(two / "broken") == contents(one / "begun0")


@pytest.mark.multiprocess
def test_the_kill_of_one_process_ends_the_other_and_one_alone_goes_on(tmp_path: Path) -> None:
    (code, errors), killed = ends_of_two([*COMMAND, str(tmp_path / "two")])
    assert killed == (-signal.SIGKILL, "")
    assert code == 2
    assert "another process of this command ended" in errors
    assert pages_of(tmp_path / "two") == 3
    assert len(write(tmp_path / "two", ALONE)) == PAGES - 3
    write(tmp_path / "one", ALONE)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_first_process_shows_the_bar_of_all(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    console = Console(force_terminal=True)
    with console.capture() as shown, progress_bar("caching", 10, console=console) as bar:
        bar.advance(5)
    assert ("caching" in shown.get()) == (rank == "0")
