"""Helps of commands, without the seconds that a Python of their own needs to start."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def help_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """What ``python -m <command> --help`` prints."""

    def shown(command: str) -> str:
        module, *words = command.split()
        monkeypatch.setattr(sys, "argv", [module, *words, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return shown
