"""Numbers of command lines are bounded."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from process import numbers


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (numbers.count, ["0", "-1", "1.5", "nan", "", str(2**64), "9" * 5000]),
        (numbers.natural, ["-1", "true", str(2**31)]),
        (numbers.seed, ["-1", str(2**64), str(2**32)]),
        (numbers.finite, ["nan", "inf", "-inf", "1e999", "x"]),
        (numbers.share, ["nan", "1.1", "-0.1"]),
    ],
)
def test_numbers_out_of_bounds_are_refused(read: Callable[[str], float], wrong: list[str]) -> None:
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a"):
            read(text)


def test_numbers_within_bounds_are_read() -> None:
    assert (numbers.count("1"), numbers.natural("0"), numbers.seed(str(2**32 - 1))) == (
        1, 0, 2**32 - 1,
    )  # fmt: skip
    assert (numbers.finite("-2.5"), numbers.share("1")) == (-2.5, 1.0)
