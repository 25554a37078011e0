"""Numbers on the command lines of ``process``: what argparse reads them by, and their options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable

from legos.settings import LARGEST, LARGEST_SEED


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1, LARGEST)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0, LARGEST)


def seed(text: str) -> int:
    """A whole number that every generator takes as a seed."""
    return _whole(text, 0, LARGEST_SEED)


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = finite(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return number


def add_numbers(
    group: argparse._ActionsContainer,
    options: Iterable[tuple[str, int, str]],
    *,
    read: Callable[[str], int],
) -> None:
    """Add options that take a number each.

    Args:
        group: of a parser, or the parser.
        options: name, default and meaning of each; ``--seed`` is read as a seed.
        read: what the others are read by.
    """
    for option, default, text in options:
        group.add_argument(
            option,
            type=seed if option == "--seed" else read,
            default=default,
            metavar="N",
            help=f"{text} (default: %(default)s)",
        )


def add_settings(
    group: argparse._ActionsContainer, defaults: object, options: Iterable[tuple[str, str, str]]
) -> None:
    """Add options for numbers of a settings object, whose type and default each has.

    Args:
        group: of a parser, or the parser.
        defaults: the settings.
        options: name, attribute and meaning of each.
    """
    for option, field, text in options:
        value = getattr(defaults, field)
        group.add_argument(
            option,
            dest=field,
            type=type(value),
            default=value,
            metavar="N",
            help=f"{text} (default: %(default)s)",
        )


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from {least} to {most}, found {text!r}"
        )
    return number
