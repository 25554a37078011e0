"""Tables for ``benchmarks/dire.py`` where there are none: a newsroom, made and removed again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.dire_setting import Options

ROOT = Path(__file__).parent.parent
GOODREADS = Path("data/goodreads")
_SMALL = ("--users", "300", "--news", "600")  # --quick


@contextmanager
def made_tables(options: Options) -> Iterator[Options]:
    """The options with tables: those that are named, else of a newsroom made for the purpose."""
    if options.tables is not None:
        yield options
        return
    print(
        f"no tables in {GOODREADS} (python -m process.goodreads once makes them): measuring on a "
        "synthetic newsroom instead; its titles are all short, so padding costs less than in books",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        command = [sys.executable, "-m", "process.synthetic"]
        command += ["--raw", str(place / "raw"), "--output", str(place / "newsroom")]
        command += _SMALL if options.quick else ()
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        yield replace(options, tables=place / "newsroom")
