"""Numbers of command lines are bounded."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from process import moments


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (moments.count, ["0", "-1", "1.5", "nan", "", str(2**64), "9" * 5000]),
        (moments.natural, ["-1", "true", str(2**31)]),
        (moments.seed, ["-1", str(2**64), str(2**32)]),
        (moments.finite, ["nan", "inf", "-inf", "1e999", "x"]),
        (moments.share, ["nan", "1.1", "-0.1"]),
    ],
)
def test_numbers_out_of_bounds_are_refused(read: Callable[[str], float], wrong: list[str]) -> None:
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a"):
            read(text)


def test_numbers_within_bounds_are_read() -> None:
    assert (moments.count("1"), moments.natural("0"), moments.seed(str(2**32 - 1))) == (
        1, 0, 2**32 - 1,
    )  # fmt: skip
    assert (moments.finite("-2.5"), moments.share("1")) == (-2.5, 1.0)
