"""How every command reads its options: a mistake is a line that names the nearest option."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from legos.errors import ConfigError, nearest
from legos.terminal import as_started

_REQUIRED = "the following arguments are required: "
_ONE_OF = re.compile(r"one of the arguments (.+) is required")
_NOT_WITH = re.compile(r"(\S+): not allowed with argument (\S+)")
_NO_VALUE = re.compile(r"(\S+): expected (?:at least )?(?:one|\d+) arguments?")


class CommandParser(argparse.ArgumentParser):
    """The options of a command; its help says ``legos mind`` to who started it so.

    Args:
        prog: the command: ``legos runs``, ``python -m process.mind``.
        others: those of ``ArgumentParser``; description and epilog are printed as they are. The
            epilog's first line with the command is the example that errors show.

    Raises:
        ConfigError: instead of a usage message, when a command line is wrong.
    """

    def __init__(self, prog: str, **others: Any) -> None:
        texts = {"formatter_class": argparse.RawDescriptionHelpFormatter, **others}
        super().__init__(prog=as_started(prog), **texts)
        self._words: list[str] = []

    def format_help(self) -> str:
        """Usage and options, examples in the words that the command was started by."""
        return as_started(super().format_help())

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; there are no unknown words to return, they are refused."""
        self._words = list(sys.argv[1:] if args is None else args)
        found, rest = super().parse_known_args(self._words, namespace)
        if rest:
            mistakes = [*self._unknown(rest).values()]
            raise ConfigError("\n".join(mistakes) or self._with_help(f"{rest[0]!r}: not expected"))
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Raise a mistake of the command line as any other; unknown options come first."""
        message = message.removeprefix("argument ")
        unknown = self._unknown(self._words)
        lines = [*unknown.values()]
        if message.startswith(_REQUIRED):
            missing = message.removeprefix(_REQUIRED).split(", ")
            missing = [name for name in missing if name not in unknown]
            if missing:
                lines.append(self._with_example(f"{', '.join(missing)}: missing", missing))
        elif found := _ONE_OF.fullmatch(message):
            if not unknown.keys() & {*found[1].split()}:
                lines.append(self._with_example(f"give one of {', '.join(found[1].split())}"))
        elif found := _NOT_WITH.fullmatch(message):
            lines.append(f"{found[1]}: cannot be combined with {found[2]}")
        elif found := _NO_VALUE.fullmatch(message):
            lines.append(self._with_example(f"{found[1]}: needs a value", [found[1]]))
        else:
            lines.append(message)
        raise ConfigError("\n".join(lines))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = nearest(str(value), map(str, action.choices))
        if action.option_strings:
            raise ConfigError(f"{action.option_strings[-1]} {value}: {choices}")
        wrong = [*self._unknown(self._words).values()]  # whose value was taken for a command
        told = f"{self.prog} {value}: no such command; {choices}"
        raise ConfigError("\n".join(wrong) or told)

    def _unknown(self, words: Sequence[str]) -> dict[str, str]:
        """The nearest option, or the wrong one where none is near -> a message."""
        options = {name.lstrip("-"): name for name in self._option_string_actions}
        commands = next((a.choices or () for a in self._actions if a.nargs == argparse.PARSER), ())
        found = {}
        for word in words:
            if word == "--" or word in commands:
                break
            name = word.partition("=")[0]
            if not re.match(r"-{1,2}[^\d\W]", name) or " " in word or self._knows(name):
                continue
            close = get_close_matches(name.lstrip("-").replace("_", "-"), options, n=1)
            if close:
                near = options[close[0]]
                found[near] = f"{name}: no such option; did you mean {near}?"
            else:
                found[name] = self._with_help(f"{name}: no such option")
        return found

    def _knows(self, name: str) -> bool:
        options = self._option_string_actions
        abbreviates = self.allow_abbrev and any(each.startswith(name) for each in options)
        return name in options or (name.startswith("--") and abbreviates)

    def _with_help(self, text: str) -> str:
        return f"{text}; `{self.prog} --help` shows what there is"

    def _with_example(self, text: str, names: Sequence[str] = ()) -> str:
        """A text and the first example, if possible one with some options."""
        lines = [line.strip() for line in (self.epilog or "").splitlines()]
        examples = [re.split(r"  +", line)[0] for line in lines if self.prog in as_started(line)]
        best = [line for line in examples if all(f"{name} " in line for name in names)]
        if not examples:
            return self._with_help(text)
        return f"{text}, as in: {(best or examples)[0]}"
