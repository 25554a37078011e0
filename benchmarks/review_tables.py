"""Amazon's reviews, UCSD's Goodreads dump and MovieLens to tables: speed, memory at two sizes.

The raw files are generated, every run the same: Amazon's with 2.9 reviews a user, one item in five
reviews and texts of 80 words, Goodreads with 261 interactions a reader, of which half have no
rating, MovieLens with 159 ratings a user, of which a few repeat a pair. Every size is one run of
the whole command, from raw files to tables; memory is what all its processes hold together (PSS),
and bytes a kept interaction are its growth. The line for the whole data set (29.5 M reviews of
Amazon 2023's books, 229 M interactions of the UCSD Book Graph, 32 M ratings of MovieLens) is drawn
through the two sizes.

`lines` reads reviews and their texts in blocks on all cores, and on the other side line by line as
until then: with Python's zlib and json, once for ids, ratings and times and once for the texts. The
interactions must be equal. The ratio is by the clock, since one side uses all cores, so it needs
them free; CPU seconds are printed beside it.

`ratings` reads MovieLens's file of ratings into events, and on the other side as `legos table`
reads any CSV; the events must be equal. Both are CPU seconds of one core.

    python -m benchmarks.review_tables [--quick] [--only lines ratings amazon goodreads movielens]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import psutil

from benchmarks.report import Part, finish_parts
from benchmarks.review_files import Size, write_amazon, write_goodreads, write_movielens
from legos.files import BoundedGzip, BoundedZlib
from process import opening
from process.amazon.reviews import FORMATS, read_reviews
from process.bad_lines import BadLines
from process.interactions.rows import Collector, Interactions
from process.json_lines import read_json_lines
from process.moments import read_moment
from process.published.choices import Choices
from process.published.movielens import find
from process.table.events import read_events
from process.table.sources import open_source

TARGETS = {  # times faster; bytes
    "lines": 4.0, "ratings": 4.0, "amazon": 400.0, "goodreads": 400.0, "movielens": 400.0,
}  # fmt: skip
WHOLE = {"amazon": 29_500_000, "goodreads": 229_000_000, "movielens": 32_000_204}  # lines
SIZES = {
    "amazon": (Size(200_000, 40_000), Size(1_000_000, 200_000)),
    "goodreads": (Size(800_000, 8_000), Size(4_000_000, 40_000)),
    "movielens": (Size(1_000_000, 20_000), Size(4_000_000, 20_000)),
}
QUICK = {
    "amazon": (Size(50_000, 10_000), Size(200_000, 40_000)),
    "goodreads": (Size(200_000, 2_000), Size(800_000, 8_000)),
    "movielens": (Size(250_000, 5_000), Size(1_000_000, 5_000)),
}
Read = TypeVar("Read")
_BETWEEN = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True)
class Run:
    """What one command took.

    Attributes:
        lines: of interactions in the raw file.
        kept: interactions in the tables.
        seconds: by the clock.
        peak: bytes of all its processes together.
    """

    lines: int
    kept: int
    seconds: float
    peak: int


def run_command(name: str, size: Size, folder: Path) -> Run:
    """Generate raw files and run the command on them as a user would."""
    if name == "amazon":
        reviews, items = write_amazon(size, folder / "raw")
        words = ["process.amazon", "reviews", "--reviews", reviews, "--metadata", items]
    elif name == "movielens":
        words = ["process.published", write_movielens(size, folder / "raw")]
    else:
        books, interactions = write_goodreads(size, folder / "raw")
        words = ["process.goodreads", "ucsd", "--books", books, "--interactions", interactions]
    tables = folder / "tables"
    command = [sys.executable, "-m", *map(str, words), "--output", str(tables)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak = _watch(process)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    seconds = time.perf_counter() - begin
    manifest = json.loads((tables / "manifest.json").read_text(encoding="utf-8"))
    kept = manifest["summary"]["time_ties"]["interactions"]
    return Run(size.interactions, kept, seconds, peak)


def _watch(process: subprocess.Popen[bytes]) -> int:
    """The most bytes that a process and its children held at one time."""
    most, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            every = [parent, *parent.children(recursive=True)]
            most = max(most, sum(each.memory_full_info().pss for each in every))
        except psutil.Error:  # one of them has just ended
            pass
        time.sleep(_BETWEEN)
    return most


def measure(name: str, sizes: tuple[Size, Size]) -> Part:
    """Both sizes, and the line through them."""
    runs = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run_command(name, size, Path(folder)))
        run = runs[-1]
        print(
            f"{name}: {run.lines:,} lines, {run.kept:,} interactions kept: {run.seconds:.1f} s, "
            f"peak {run.peak / 2**20:,.0f} MiB",
            flush=True,
        )
    small, large = runs
    each = (large.peak - small.peak) / (large.kept - small.kept)
    more = WHOLE[name] - large.lines
    seconds = large.seconds + more * (large.seconds - small.seconds) / (large.lines - small.lines)
    peak = large.peak + each * more * large.kept / large.lines
    print(
        f"{name}: {each:.0f} bytes a kept interaction; {WHOLE[name]:,} lines, extrapolated: "
        f"{seconds / 3600:.1f} h, {peak / 2**30:.1f} GiB"
    )
    return Part(each, TARGETS[name], each / TARGETS[name], each < TARGETS[name])


def measure_lines(size: Size) -> Part:
    """Lines a second of both readers."""
    with tempfile.TemporaryDirectory() as folder:
        path, _ = write_amazon(size, Path(folder) / "raw")
        ours, cpu, found = _timed(lambda: read_all(path))
        other, other_cpu, expected = _timed(lambda: read_line_by_line(path))
    same = all(
        np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=name == "rating")
        for name in ("user", "item", "rating", "time", "content")
    )
    rates = size.interactions / ours, size.interactions / other
    print(
        f"lines: {rates[0]:,.0f} a second ({cpu:.1f} CPU seconds of all processes), line by line "
        f"{rates[1]:,.0f} ({other_cpu:.1f}); equal: {same}; unpacked by "
        f"{'zlib' if BoundedGzip is BoundedZlib else 'ISA-L'}, line by line by zlib"
    )
    ratio = rates[0] / rates[1]
    return Part(rates[0], rates[1], ratio, same and ratio >= TARGETS["lines"])


def measure_ratings(size: Size) -> Part:
    """CPU seconds of MovieLens's reader and of that of any CSV."""
    with tempfile.TemporaryDirectory() as folder:
        place = write_movielens(size, Path(folder) / "raw")
        layout = find(place, Choices())
        any_csv = open_source(place / "ratings.csv", "events", encoding="utf-8", quotes=True)
        if layout is None:
            raise AssertionError("a folder of MovieLens is not recognised")
        _, ours, found = _timed(lambda: read_events(layout.events, {}, BadLines()))
        _, other, expected = _timed(lambda: read_events([any_csv], {}, BadLines()))
    same = found.users.codes == expected.users.codes and all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        for name in ("user", "item", "time", "rating")
    )
    print(
        f"ratings: {size.interactions:,} in {ours:.1f} CPU seconds, as any CSV in {other:.1f}; "
        f"equal: {same}"
    )
    return Part(ours, other, other / ours, same and other / ours >= TARGETS["ratings"])


def _timed(read: Callable[[], Read]) -> tuple[float, float, Read]:
    """Seconds by the clock and of CPU, and what was read."""
    begin, cpu = time.perf_counter(), _cpu()
    found = read()
    return time.perf_counter() - begin, _cpu() - cpu, found


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def read_all(path: Path) -> Interactions:
    """Our reader, with the texts of all reviews."""
    found, texts, _ = read_reviews([path], BadLines())
    if texts is not None:
        texts.columns(found.place)
    return found


@patch.object(opening, "BoundedGzip", BoundedZlib)
def read_line_by_line(path: Path) -> Interactions:
    """What ``read_all`` gives, in two passes over the lines."""
    known, collector, bad = FORMATS[0], Collector(), BadLines()
    for row in read_json_lines([path], "reading", bad=bad):
        rating = float(row.number(known.rating) or np.nan)
        moment = read_moment(row, known.time, bad.notes)
        collector.add(row.id(known.user), row.id(known.item), rating, moment, content=row.content)
    texts = [
        (row.text(known.review), row.text(known.headline))
        for row in read_json_lines([path], "reading", bad=bad)
    ]
    found = collector.done()
    if len(texts) != len(found):
        raise AssertionError("the passes see different lines")
    return found


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the sizes")
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    args = parser.parse_args()
    sizes = QUICK if args.quick else SIZES
    parts = {}
    for name in args.only:
        if name == "lines":
            parts[name] = measure_lines(sizes["amazon"][1])
        elif name == "ratings":
            parts[name] = measure_ratings(sizes["movielens"][1])
        else:
            parts[name] = measure(name, sizes[name])
    finish_parts("review_tables", parts, TARGETS)


if __name__ == "__main__":
    main()
