"""A hand-made newsroom of five articles in MIND's raw layout, small enough to check by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

NEWS = (
    "N1\tsports\tsoccer\tA cup final\tTwo teams, one cup.\thttps://x/1\t[]\t[]",
    'N2\tsports\ttennis\t"Out" she said\t\thttps://x/2\t[]\t[]',
    "N3\tfinance\tmarkets\tStocks fall\tMarkets fell on Monday.\thttps://x/3\t[]\t[]",
    "N4\tmusic\t\tAn album\tTen songs.\thttps://x/4\t[]\t[]",
    "N5\tfinance\tmarkets\tStocks rise\tMarkets rose.\thttps://x/5\t[]\t[]",
)
TRAIN = (
    "1\tU1\t11/11/2019 9:05:58 AM\tN1 N3\tN2-1 N3-0",
    "2\tU2\t11/11/2019 12:00:00 AM\t\tN1-0 N4-1 N3-0",
    "3\tU1\t11/12/2019 11:59:59 PM\tN1 N3\tN4-0 N2-1",
)
DEV = (
    "1\tU1\t11/15/2019 1:00:00 PM\tN1 N3 N2\tN5-1 N1-0",
    "2\tU3\t11/15/2019 2:00:00 PM\tN4 N4\tN2-0 N5-0 N3-1",
)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write lines as a UTF-8 file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_mind(
    folder: Path,
    *,
    news: Sequence[str] = NEWS,
    train: Sequence[str] = TRAIN,
    dev: Sequence[str] = DEV,
) -> Path:
    """Write ``train/`` and ``dev/``; returns ``folder``."""
    for split, lines in (("train", train), ("dev", dev)):
        write_lines(folder / split / "news.tsv", news)
        write_lines(folder / split / "behaviors.tsv", lines)
    return folder
