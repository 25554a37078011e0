"""What a wheel and a source archive hold, and that a wheel works from another folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(name: str) -> dict[str, Requirement]:
    """The pins of a requirements file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.partition("#")[0]) for line in lines if re.match(r"\w", line)]
    return {pin.name: pin for pin in pins}


def test_every_pin_lies_in_the_range_that_a_wheel_asks_for() -> None:
    ranges = {each.name: each for each in map(Requirement, PROJECT["project"]["dependencies"])}
    pins = requirements("requirements.txt")
    assert ranges.keys() == pins.keys()
    for name, pin in pins.items():
        (specifier,) = pin.specifier
        assert ranges[name].specifier.contains(specifier.version), name


def test_every_requirements_file_of_an_option_is_an_extra() -> None:
    extras = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    files = {path.name for path in ROOT.glob("requirements-*.txt")}
    others = {"requirements-dev.txt", "requirements-smollm2.txt"}  # see the head of each
    assert {file for extra in extras.values() for file in extra["file"]} == files - others
    assert {*extras["all"]["file"]} == files - others


def tracked(*new: str) -> set[str]:
    """The files of the repository; with ``--others`` also those that will be."""
    command = ["git", "ls-files", "--cached", "--exclude-standard", *new]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs git and a checkout")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source archive of the tracked files, and the wheel made of the archive."""
    folder = tmp_path_factory.mktemp("built")
    for name in tracked("--others"):
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "tree" / name)
    build = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", build, str(folder)], folder / "tree")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    build = build.replace("sdist", "wheel")
    run([sys.executable, "-c", build, str(folder)], source)
    (wheel,) = folder.glob("*.whl")
    return archive, wheel


def run(command: list[str], folder: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_source_archive_is_the_repository(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked() - names == set()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_wheel_has_the_packages_and_the_yamls_and_nothing_else(
    built: tuple[Path, Path],
) -> None:
    expected = {
        name.replace("config/", "legos/shipped/", 1) if name.startswith("config/") else name
        for name in tracked("--others")
        if name.split("/")[0] in ("legos", "process", "config")
    }
    found = set(zipfile.ZipFile(built[1]).namelist())
    assert {name for name in found if ".dist-info/" not in name} == expected


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_wheel_works_from_another_folder(built: tuple[Path, Path], tmp_path: Path) -> None:
    place, target = tmp_path / "place", tmp_path / "target"
    place.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    install.append("--target")
    run([sys.executable, *install, str(target), str(built[1])], place)
    mine = place / "mine.yaml"
    mine.write_text("$$import: legos:model/naml.yaml\nname: mine\n")

    def legos(*words: str) -> str:
        return run(
            [sys.executable, str(target / "bin/legos"), *words], place, PYTHONPATH=str(target)
        )

    assert "usage:" in legos("--help")
    assert re.search(r"^  newsroom ", legos("list", "data"), re.MULTILINE)
    text = legos("run", "--data", "newsroom", "--model", str(mine), "--exp", "tt", "--check")
    assert re.search(r"model.name +mine", text)
    where = [sys.executable, "-c", "import legos; print(legos.__file__)"]
    assert run(where, place, PYTHONPATH=str(target)).strip() == str(target / "legos/__init__.py")
    assert {path.name for path in place.iterdir()} == {"mine.yaml"}
