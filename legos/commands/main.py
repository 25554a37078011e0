"""The command ``legos``: a table of its sub-commands, each imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import legos
from legos.errors import EXIT_FAULT, EXIT_INTERRUPTED, ConfigError, nearest, run_command
from legos.terminal import started_as_legos


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        module: defines ``main(words) -> int``, or in ``process`` ``build_parser()`` and
            ``main(args)``. Modules that are not installed are left out.
        about: one line for ``legos --help``.
    """

    module: str
    about: str


GROUPS: dict[str, dict[str, Command]] = {
    "prepare your own data": {
        "table": Command("process.table.__main__", "CSV or Parquet files of items and events"),
        "unitok": Command("process.unitok.__main__", "a UniTok folder"),
    },
    "prepare published data": {
        "published": Command(
            "process.published.__main__", "MovieLens, EB-NeRD, ... (detected by their files)"
        ),
        "mind": Command("process.mind.__main__", "MIND, or data in its layout"),
        "goodreads": Command("process.goodreads.__main__", "Goodreads by ONCE, or UCSD's dump"),
        "amazon": Command("process.amazon.__main__", "Amazon reviews of 2014, 2018 and 2023"),
        "synthetic": Command("process.synthetic.__main__", "a synthetic newsroom to try things on"),
        "payments": Command("process.payments.__main__", "a synthetic payment app, for RecSysLLM"),
        "honesty": Command("process.honesty.__main__", "check prepared data for leaks and traps"),
    },
    "train, test, compare": {
        "run": Command("legos.commands.run", "train, test or compare models"),
        "list": Command("legos.commands.list", "list models, bricks and YAMLs"),
        "runs": Command("legos.commands.runs", "list, show, compare or remove past runs"),
    },
    "use a trained model": {
        "recommend": Command("legos.commands.recommend", "top items for known or new users"),
        "similar": Command("legos.commands.similar", "items similar to an item"),
        "vectors": Command("legos.commands.vectors", "export vectors of items and users"),
        "rate": Command("legos.commands.rate", "predict a user's rating (RecSysLLM)"),
        "explain": Command("legos.commands.explain", "explain why an item fits a user"),
        "serve": Command("legos.commands.serve", "serve recommendations over HTTP"),
    },
    "texts and vectors": {
        "genre": Command("process.genre.__main__", "generate profiles, texts and items (GENRE)"),
        "user-fields": Command("process.user_fields", "add user profiles to prepared data"),
        "item-vectors": Command("process.item_vectors", "encode items with a sentence encoder"),
        "semantic-codes": Command("process.semantic_codes.__main__", "quantise item vectors"),
        "cllm4rec-vectors": Command("process.cllm4rec_vectors", "export vectors of a CLLM4Rec"),
        "explanations": Command("process.explanations", "add published explanations (RecSysLLM)"),
        "vocabulary": Command("process.vocabulary", "make a small language model for the data"),
        "recbole": Command("process.recbole.__main__", "export to RecBole, import its results"),
    },
}

_HEAD = """\
Content-based recommendation in the age of language models, assembled from bricks.

usage:
  legos COMMAND ...
  legos COMMAND --help          options and examples of a command
"""
_FIRST_STEPS = (
    "legos table --items items.csv --events events.csv --output data/shop",
    "legos run --data shop",
    "legos recommend runs/shop --user USER",
    "legos serve runs/shop",
    "legos published ml-1m --output data/ml-1m  # MovieLens and others, as downloaded",
    "legos synthetic --raw data/raw/newsroom --output data/newsroom  # synthetic data",
)
_TAIL = """
data/, runs/ and cache/ are in the working directory, or in the folder given by LEGOS_HOME."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code, see :mod:`legos.errors`.

    Args:
        words: of the command line; None: ``sys.argv[1:]``.
    """
    words = sys.argv[1:] if words is None else words
    with started_as_legos():
        try:
            return _dispatch(words)
        except KeyboardInterrupt:  # while a module is imported; commands handle their own
            return EXIT_INTERRUPTED
        except SystemExit as end:  # argparse
            return end.code if isinstance(end.code, int) else EXIT_FAULT if end.code else 0


def _dispatch(words: Sequence[str]) -> int:
    name, *rest = words or ["--help"]
    if name in ("-h", "--help"):
        return run_command(lambda _: print(help_text()), [])
    if name == "--version":
        return run_command(lambda _: print(f"legos {legos.__version__}"), [])
    commands = available()
    if name not in commands:
        return run_command(lambda _: _refuse(name, commands), [])
    found: list[Any] = []
    failed = run_command(lambda _: found.append(import_module(commands[name].module)), [])
    if failed:  # such as a package that is not installed
        return failed
    (module,) = found
    if commands[name].module.startswith("process."):
        from process.command import run_cli

        run_cli(module.main, module.build_parser(), rest)
    code: int = module.main(rest)
    return code


def _refuse(name: str, commands: dict[str, Command]) -> None:
    raise ConfigError(f"legos {name}: no such command; {nearest(name, commands)}")


def available() -> dict[str, Command]:
    """Return the sub-commands whose modules are installed, by name."""
    return {
        name: command
        for group in GROUPS.values()
        for name, command in group.items()
        if _is_there(command.module)
    }


def _is_there(module: str) -> bool:
    """Whether a module of ours is there; nothing is imported, not even the package around it."""
    root = Path(legos.__file__).parents[1]
    return root.joinpath(*module.split(".")).with_suffix(".py").is_file()


def help_text() -> str:
    """Usage, sub-commands by group, first steps."""
    known = available()
    width = max(map(len, known))
    groups = []
    for title, commands in GROUPS.items():
        rows = [f"  {name:<{width}}  {known[name].about}" for name in commands if name in known]
        groups += [f"\n{title}:", *rows] if rows else []
    steps = [f"  {step}" for step in _FIRST_STEPS if step.split()[1] in known]
    return "\n".join([_HEAD.rstrip(), *groups, "\nfirst steps:", *steps, _TAIL])
