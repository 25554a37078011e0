"""Every command of README.md and docs/ is understood: by its parser, and a run by its YAMLs.

Commands on data that cannot be had here are read as far as ``--check`` reads them before it opens
a table. What runs in full is tested where the page is (``tests/test_own_data_guide.py``,
``tests/recommend/test_guide.py``, ``tests/test_add_a_lego.py``, ...).
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from legos.commands.main import available
from legos.config.help import help_text
from legos.config.load import load_run_config
from legos.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 100
"""Characters of a command line."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(?:|bash|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_STARTS = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:legos|python3?|make|accelerate launch|torchrun)(?: |$)|\.?[\w/.-]*python "
)
_OPTIONS_OF_RUNS = {"--check", "--verbose", "--verify", "--prune", "--list"}
_PLACEHOLDER = re.compile(r"^[A-Z][A-Z_]+$|RUN|\.\.\.|…")
OWN_TABLES = re.compile(r"^(?:data/)?(?:shop(?:-w0[12])?|all|ml|movielens-1m|by-time|bought)$")
"""Tables that a reader makes; read as the newsroom."""
NOT_TO_BE_READ = {
    "python3.11": "another interpreter",
    "recbole-env/bin/python": "RecBole's own environment",
}


def commands(page: Path) -> Iterator[str]:
    """The command lines of a page's blocks, continued lines joined, without prompts."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        whole = re.sub(r" *\\\n *", " ", block)
        whole = re.sub(r"'\[[^'\n]*\n[^']*'", lambda text: re.sub(r"\n *", " ", text[0]), whole)
        for line in whole.splitlines():
            line = line.strip().removeprefix("$ ")
            if _STARTS.match(line):
                yield line


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def words_of(command: str) -> list[str]:
    """The words of a command, without variables of the environment, comments and pipes."""
    words = shlex.split(command, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    for sign in ("|", ">", "&&", "2>&1", "&"):
        words = words[: words.index(sign)] if sign in words else words
    return words


def understand(words: Sequence[str]) -> None:
    """Read a command as it would be read before it opens any file of data."""
    match words:
        case ["accelerate", "launch", *rest] | ["torchrun", *rest]:
            start = next(n for n, word in enumerate(rest) if word in ("worker.py", "-m"))
            understand(["python", *rest[start:]])
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            for target in targets:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        case ["python" | "python3", "worker.py", *rest] | ["legos", "run", *rest]:
            understand_run(rest)
        case ["python", "-m", "legos", *rest]:
            understand(["legos", *rest])
        case ["legos", "--help" | "--version"] | ["legos"]:
            pass
        case ["legos", "list", *rest]:
            assert re.fullmatch(r"\w* ?(--plugin \w+)?", " ".join(rest)), rest
        case ["legos", name, *rest]:
            assert name in available(), name
            understand_module(available()[name].module, rest)
        case ["python", "-m", module, *rest]:
            understand_module(module, rest)
        case [program, *_]:
            assert program in NOT_TO_BE_READ, words


def understand_run(words: Sequence[str]) -> None:
    """Read the YAMLs and overrides of a run; what names a trained run is read up to its options."""
    left = [word for word in words if word not in _OPTIONS_OF_RUNS]
    errands = {"--load", "--impressions", "--config", "--plugin"}
    if (
        not left
        or "cache" in left
        or errands & set(left)
        or any(_PLACEHOLDER.search(word) for word in left)
    ):
        options = {word for word in left if re.match(r"--\w+$", word)}
        assert all(is_option(option) for option in options), options
        return
    if "--processes" in left:
        at = left.index("--processes")
        del left[at : at + 2]
    left = ["newsroom" if OWN_TABLES.match(word) else word for word in left]
    load_run_config(left, notice=lambda text: None)


def is_option(option: str) -> bool:
    """Whether a run has an option of this name: its own, or a variable of a shipped YAML."""
    return f"{option} " in f"{help_text()} --plugin --load " or option[2:] in variables()


@cache
def variables() -> set[str]:
    """Names that shipped YAMLs read as ``${name:default}``."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "config").rglob("*.yaml"))
    return {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}


def understand_module(module: str, words: Sequence[str]) -> None:
    """Parse the words by the parser of a module, or compare options with its text."""
    if module.startswith("process.") and not module.endswith("__main__"):
        folder = ROOT.joinpath(*module.split("."))
        module = f"{module}.__main__" if folder.is_dir() else module
    if module.startswith(("process.", "legos.")):
        loaded = import_module(module)
        build = getattr(loaded, "build_parser", getattr(loaded, "_parser", None))
        if build is not None:
            parser: argparse.ArgumentParser = build()
            parser.parse_args([word for word in words if word != "--help"])
            return
    path = ROOT.joinpath(*module.split("."))
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else path.rglob("*.py")
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert text, module
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text, f"{module} {word}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    try:
        understand(words_of(command))
    except (ConfigError, SystemExit) as fault:
        pytest.fail(f"{command}: {fault} {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_fits_on_a_line(page: Path) -> None:
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if _STARTS.match(line.strip()):
                assert len(line) <= LONGEST, line


def test_there_are_commands_to_read() -> None:
    assert len(COMMANDS) > 150
    assert {words_of(command)[0] for command in COMMANDS} >= {"legos", "python", "make"}
