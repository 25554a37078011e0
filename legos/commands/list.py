"""``legos list``: what ``legos run --list`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from legos.commands import run

_HELP = """\
Print the name of every model, brick and YAML, of one family or of all.

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
