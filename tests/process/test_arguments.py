"""Numbers of command lines are bounded."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from process import arguments


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (arguments.count, ["0", "-1", "1.5", "nan", "", str(2**64), "9" * 5000]),
        (arguments.natural, ["-1", "true", str(2**31)]),
        (arguments.seed, ["-1", str(2**64), str(2**32)]),
        (arguments.finite, ["nan", "inf", "-inf", "1e999", "x"]),
        (arguments.share, ["nan", "1.1", "-0.1"]),
    ],
)
def test_numbers_out_of_bounds_are_refused(read: Callable[[str], float], wrong: list[str]) -> None:
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a"):
            read(text)


def test_numbers_within_bounds_are_read() -> None:
    assert (arguments.count("1"), arguments.natural("0"), arguments.seed(str(2**32 - 1))) == (
        1, 0, 2**32 - 1,
    )  # fmt: skip
    assert (arguments.finite("-2.5"), arguments.share("1")) == (-2.5, 1.0)
