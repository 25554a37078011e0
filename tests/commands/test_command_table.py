"""The command ``legos``: its help, its sub-commands, what an unknown word gets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from legos import errors
from legos.commands.main import GROUPS, available, main
from legos.terminal import as_started, started_as_legos

ROOT = Path(__file__).parents[2]


def test_the_help_has_a_line_for_every_command_that_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for name, command in available().items():
        assert re.search(rf"^  {name} +{re.escape(command.about)}$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 100


def test_a_command_without_a_module_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    group = GROUPS["use a trained model"]
    missing = group["recommend"]._replace(module="legos.commands.nothing")
    monkeypatch.setitem(group, "teleport", missing)
    assert "teleport" not in available()
    assert main(["teleport"]) == 2


@pytest.mark.parametrize("name", available())
def test_every_command_helps_in_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"legos {name}" in text
    assert "worker.py" not in text
    assert "python -m process" not in text


def test_an_unknown_word_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lst"]) == 2
    assert "error: legos lst: no such command; did you mean 'list'?" in capsys.readouterr().err


def test_run_takes_what_the_worker_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--list", "predictor"]) == 0
    listed = capsys.readouterr().out
    assert main(["list", "predictor"]) == 0
    assert capsys.readouterr().out == listed
    assert main(["run", "--data", "newsrom"]) == 2
    assert "did you mean 'newsroom'" in capsys.readouterr().err


@pytest.mark.multiprocess
def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from legos.commands.main import main; main(['--help']);"
        "slow = {'torch', 'pandas', 'numpy', 'pydantic', 'rich', 'yaml', 'argparse'};"
        "print(sorted(slow & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("start", "named"),
    [
        (["-m", "legos", "synthetic"], "legos synthetic"),
        (["-m", "process.synthetic"], "python -m process.synthetic"),
    ],
)
def test_a_command_is_called_what_the_user_typed(start: list[str], named: str) -> None:
    done = subprocess.run(
        [sys.executable, *start, "--raw", "x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --output: missing, as in: {named} --raw ")
    assert done.stderr.count("\n") == 1


WRONG_OPTION = ["--outptu", "x"]
COMMANDS = [
    *([name] for name in available() if name not in ("run", "list")),
    *(["runs", name] for name in ("list", "show", "compare", "rm", "prune")),
    *(["amazon", name] for name in ("reviews", "prepared", "cllm4rec")),
    ["genre", "run"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_option_is_a_line_and_exit_2(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *WRONG_OPTION]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: --outptu: no such option; "), told
    assert len(told) <= 2


LEGOS = "../env/bin/python -m legos"


@pytest.mark.parametrize(
    ("text", "as_legos", "as_module"),
    [
        ("python worker.py --list", f"{LEGOS} run --list", "python worker.py --list"),
        (
            "accelerate launch worker.py --data config/data/mind.yaml",
            "accelerate launch -m legos run --data mind",
            "accelerate launch worker.py --data config/data/mind.yaml",
        ),
        (
            "python -m process.user_fields --help",
            "legos user-fields --help",
            "python -m process.user_fields --help",
        ),
        ("  legos serve runs/shop", f"  {LEGOS} serve runs/shop", f"  {LEGOS} serve runs/shop"),
        ("python -m legos run", "python -m legos run", "python -m legos run"),
        ("config/data/mind.yaml:3: x", "config/data/mind.yaml:3: x", "config/data/mind.yaml:3: x"),
    ],
)
def test_command_lines_are_those_that_the_user_can_type(
    text: str, as_legos: str, as_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # without the command legos
    monkeypatch.setattr("sys.executable", "../env/bin/python")
    assert as_started(text) == as_module
    with started_as_legos():
        assert as_started(text) == as_legos


@pytest.mark.parametrize(
    ("package", "in_checkout", "installs"),
    [
        ("openai.types", False, "`pip install 'legos[genre]'`"),
        ("fastapi", False, "`pip install 'legos[serve]'`"),
        ("openai", True, "`pip install -r requirements-genre.txt`"),
        ("no_such_thing", True, "`pip install no_such_thing`"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    package: str, in_checkout: bool, installs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "IN_CHECKOUT", in_checkout)
    told, code = errors.describe(ModuleNotFoundError("No module", name=package))
    assert code == 2
    needs = f"this needs the package {package.split('.')[0]}, which is not installed"
    assert told == f"{needs}; {installs}"
