"""``legos list``: names of models, bricks and YAMLs, like ``legos run --list``."""

from __future__ import annotations

from collections.abc import Sequence

from legos.commands import run

_HELP = """\
List models, bricks and YAMLs by name: all of them, or one family.

usage:
  legos list [FAMILY]           model, system, item, user, predictor, data, exp, embed

example:
  legos list predictor"""


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    if {"-h", "--help"} & {*words}:
        print(_HELP)
        return 0
    return run.main(["--list", *words])
