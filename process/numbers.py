"""Numbers of command lines, with bounds; argparse puts its errors beside the option's name."""

from __future__ import annotations

import argparse
import math

from legos.settings import LARGEST, LARGEST_SEED


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
