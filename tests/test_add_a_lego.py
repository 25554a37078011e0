"""What docs/add-a-lego.md promises: the file it shows is a brick, and the matrix tests cover it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_python

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.multiprocess


@pytest.fixture
def brick(tmp_path: Path) -> Path:
    """The file of the how-to, in a folder of its own."""
    text = (ROOT / "docs" / "add-a-lego.md").read_text(encoding="utf-8")
    code = re.search(r"`legos/item/(\w+)\.py`:\n```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    path = tmp_path / f"{code[1]}.py"
    path.write_text(code[2], encoding="utf-8")
    return path


def matrix(brick: Path) -> tuple[int | None, str]:
    """The matrix tests of the new brick; ``-p`` imports it before they are collected."""
    tests = ["-m", "pytest", "tests/test_invariants.py", "-k", f"{brick.stem}[", "-p", brick.stem]
    more = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    return run_python([*tests, *more], PYTHONPATH=str(brick.parent))


def test_it_is_one_short_file_in_good_order(brick: Path) -> None:
    assert len(brick.read_text(encoding="utf-8").splitlines()) <= 45
    for check in (["check"], ["format", "--check"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--config", "pyproject.toml", str(brick)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout


def test_the_matrix_tests_pick_it_up(brick: Path) -> None:
    code, output = matrix(brick)
    assert code == 0, output
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None
    assert int(passed[1]) >= 20


def test_the_matrix_tests_would_find_a_mistake(brick: Path) -> None:
    right = brick.read_text(encoding="utf-8")
    mixed = right.replace("torch.cat(both, 1)", "torch.cat(both, 1) + both[0].mean()")
    assert mixed != right
    brick.write_text(mixed, encoding="utf-8")
    code, output = matrix(brick)
    assert code == 1
    assert "FAILED tests/test_invariants.py::test_an_item_alone_equals_the_item_in_a_b" in output
