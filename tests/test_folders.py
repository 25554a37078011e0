"""Folders and files that several processes write at once, are killed in, or reach by a link."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from legos.errors import DataError
from legos.files import (
    InUseError,
    atomic_folder,
    atomic_path,
    output_lock,
    recover_folder,
    sha256_of_file,
    write_text,
)

WRITER = """
import random, sys, time
from pathlib import Path
from legos.files import InUseError, atomic_folder, sha256_of_file, write_json, write_text
folder, met, me = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
done = 0
while done < 5:
    try:
        with atomic_folder(folder) as part:
            while not met.exists():
                time.sleep(0.002)
            for n in range(random.randrange(2, 6)):
                write_text(part / f"{n}.txt", f"{me} {done} " * 50)
            files = {path.name: sha256_of_file(path) for path in part.iterdir()}
            write_json(part / "manifest.json", files)
        done += 1
    except InUseError as error:
        assert "is writing this folder" in str(error)
        met.touch()
        time.sleep(0.002)
"""

HOLDER = """
import sys, time
from pathlib import Path
from legos.files import atomic_path, write_text
from legos.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as part, atomic_path(Path(sys.argv[2])) as file:
    write_text(part / "half.txt", "half")
    file.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def _siblings(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()}


@pytest.mark.multiprocess
def test_many_processes_that_write_one_folder_leave_one_whole_result(tmp_path: Path) -> None:
    """The first one waits until another one was refused, so that they do meet."""
    (tmp_path / "out").mkdir()
    folder = tmp_path / "out" / "tables"
    command = [sys.executable, "-c", WRITER, str(folder), str(tmp_path / "met")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(n)], **pipes) for n in range(4)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 4
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    files = json.loads((folder / "manifest.json").read_text())
    assert files == {
        path.name: sha256_of_file(path) for path in folder.iterdir() if path.name in files
    }
    assert {path.name for path in folder.iterdir()} == {*files, "manifest.json"}
    owners = {(folder / name).read_text().split()[0] for name in files}
    assert len(owners) == 1
    assert _siblings(folder) == {"tables"}


@pytest.mark.multiprocess
def test_what_a_killed_process_leaves_is_free_and_removed(tmp_path: Path) -> None:
    folder, file = tmp_path / "tables", tmp_path / "vectors.npy"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    command = [sys.executable, "-c", HOLDER, str(folder), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "writing\n"
        refused = pytest.raises(InUseError, match=f"process {holder.pid} is writing")
        with refused, atomic_folder(folder):
            pass
        write_text(file, "another process, the same name")
        assert any(name.startswith(".vectors.npy.") for name in _siblings(folder))
        recover_folder(folder)
        assert any(name.startswith(".tables.") for name in _siblings(folder))
        holder.send_signal(signal.SIGKILL)
    assert (folder / "old.txt").read_text() == "old"
    with atomic_folder(folder) as part:
        write_text(part / "new.txt", "new")
    write_text(file, "new")
    assert [path.name for path in folder.iterdir()] == ["new.txt"]
    assert _siblings(folder) == {"tables", "vectors.npy"}


@pytest.mark.multiprocess
def test_a_process_that_waits_goes_on_when_the_owner_is_done(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from legos.files import output_lock\n"
        "with output_lock(Path(sys.argv[1]), wait=True): time.sleep(0.3)"
    )
    folder = tmp_path / "candidates"
    with output_lock(folder):
        waiting = subprocess.Popen([sys.executable, "-c", script, str(folder)])
        time.sleep(0.5)
        assert waiting.poll() is None
    assert waiting.wait(30) == 0
    assert _siblings(folder) == set()


def test_a_linked_output_keeps_its_link(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "tables").mkdir(parents=True)
    (disk / "tables" / "old.txt").write_text("old")
    link = tmp_path / "tables"
    link.symlink_to(disk / "tables")
    with atomic_folder(link) as part:
        assert part.parent == disk
        write_text(part / "new.txt", "new")
    assert link.is_symlink()
    assert [path.name for path in (disk / "tables").iterdir()] == ["new.txt"]
    assert _siblings(disk / "tables") == {"tables"}


def test_a_link_to_nothing_yet_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "tables"
    link.symlink_to(tmp_path / "disk" / "tables")
    with atomic_folder(link) as part:
        write_text(part / "new.txt", "new")
    assert link.is_symlink()
    assert (tmp_path / "disk/tables/new.txt").read_text() == "new"


def test_a_linked_file_keeps_its_link(tmp_path: Path) -> None:
    (tmp_path / "disk.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("disk.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "disk.txt").read_text() == "new"


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else Path("/dev/null")
    with pytest.raises(DataError, match="is no regular file"):
        write_text(path, "text")
    assert path.exists()


def test_a_file_in_place_of_the_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / "tables"
    path.write_text("mine")
    with pytest.raises(DataError, match="is a file"), atomic_folder(path):
        pass
    assert path.read_text() == "mine"
    assert _siblings(path) == {"tables"}


def test_another_output_with_a_similar_name_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".tables.old.1-00000000.part"
    other.mkdir()
    with atomic_folder(tmp_path / "tables") as part:
        write_text(part / "new.txt", "new")
    assert other.is_dir()


def test_a_crash_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    (tmp_path / ".tables.old").mkdir()
    (tmp_path / ".tables.old" / "old.txt").write_text("old")
    recover_folder(folder)
    assert (folder / "old.txt").read_text() == "old"
    assert _siblings(folder) == {"tables"}


def test_a_folder_that_changes_during_the_exchange_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def meddle(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            (Path(source) / "a.txt").write_text("longer than it was")
        rename(source, target)

    monkeypatch.setattr(os, "rename", meddle)
    (tmp_path / "tables").mkdir()
    refused = pytest.raises(DataError, match="is not what was written")
    with refused, atomic_folder(tmp_path / "tables") as part:
        write_text(part / "a.txt", "a")
    assert not list((tmp_path / "tables").iterdir())


def test_a_failed_exchange_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "tables", os.rename
    folder.mkdir()
    (folder / "old.txt").write_text("old")

    def fail(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            raise OSError(18, "Invalid cross-device link", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="cross-device"), atomic_folder(folder) as part:
        write_text(part / "new.txt", "new")
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert _siblings(folder) == {"tables"}


def test_half_of_a_surrogate_pair_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"text.json: cannot be written as UTF-8: .*U\+D83D"):
        write_text(tmp_path / "text.json", "half an emoji: \ud83d")
    assert not list(tmp_path.iterdir())


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a") as part:
        part.write_text(f"half {1 / 0}")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "b") as part:
        write_text(part / "c", f"half {1 / 0}")
    assert not list(tmp_path.iterdir())
