"""Every baseline over all items: CPU seconds to fit and to score, peak memory.

    python -m benchmarks.baselines [--data FOLDER] [--only NAME ...] [--quick]

With --data: real tables; all distinct histories of split `test` are scored. Without: a made-up
catalogue of 100,000 items and 100,000 users with 10 reads each, popularity as in a Zipf law, of
which 10,000 histories are scored; baselines of texts and times are left out, and EASE has 50
neighbours, as its matrix would take 37 GiB. Each in a process of its own; the libraries take some
250 MiB of its memory. Beside them (the other side): the scores of one random matrix of that size
in the same pages, which everything that ranks all items has to make. An iteration of iALS stands
beside one that factorises a matrix of factors x factors for every row. No part has a target.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import sparse

from benchmarks.alone import alone
from benchmarks.clock import cpu_seconds
from benchmarks.report import Part, finish_parts
from legos.baselines import ials
from legos.baselines.base import HistoryBaseline, HistoryScores, make_baseline
from legos.baselines.data import BaselineData, FitData
from legos.data.tables import Tables
from legos.registry import bricks, read_baseline

USERS, ITEMS, READS, SCORED, PAGE = 100_000, 100_000, 10, 10_000, 512
LARGE = {"ease": {"neighbours": 50}, "item_knn": {"k": 200}, "ials": {"factors": 64}}
NEEDS_DATA = {"texts", "text_vectors", "times", "oracle"}


def made_up(quick: bool) -> tuple[FitData, sparse.csr_matrix]:
    """Reads of popular items and of some taste: users of a tenth read items of that tenth."""
    users, items = (USERS // 10, ITEMS // 10) if quick else (USERS, ITEMS)
    generator = np.random.default_rng(0)
    rank = np.minimum(generator.zipf(1.3, (users, READS)) - 1, items // 10 - 1)
    columns = rank * 10 + np.arange(users)[:, None] % 10
    rows = np.repeat(np.arange(users), READS)
    reads = sparse.csr_matrix(
        (np.ones(users * READS, np.float32), (rows, columns.ravel())), shape=(users, items)
    )
    reads.data[:] = 1
    data: Any = SimpleNamespace(
        reads=reads, popularity=np.asarray(reads.sum(0)).ravel(), items=np.arange(items)
    )
    return data, (reads[: SCORED // (10 if quick else 1)] / READS).tocsr().astype(np.float32)


def real(folder: Path) -> tuple[FitData, sparse.csr_matrix]:
    """Tables, and the distinct histories of split ``test``."""
    tables = Tables.load(folder)
    data = BaselineData(tables, "test", catalogue=tables.offered.numpy())
    return data, data.histories


def measured(name: str, folder: Path | None, quick: bool) -> dict[str, float]:
    """CPU seconds of one baseline."""
    data, histories = made_up(quick) if folder is None else real(folder)
    more = LARGE.get(name, {}) if folder is None else {}
    baseline = make_baseline(read_baseline({"name": name, **more}))
    assert isinstance(baseline, HistoryBaseline)
    found: list[HistoryScores] = []
    fit = cpu_seconds(lambda: found.append(baseline.fit(data)))

    def score() -> None:
        for first in range(0, histories.shape[0], PAGE):
            found[0](histories[first : first + PAGE])

    return {"fit": fit, "score": cpu_seconds(score)}


def iteration(folder: Path | None, quick: bool) -> tuple[float, float]:
    """CPU seconds of an iteration of iALS, and of one by a factorisation a row."""
    data, _ = made_up(quick) if folder is None else real(folder)
    method = ials.IALS(ials.IALSConfig())
    reads = data.reads[:, np.flatnonzero(data.popularity)].tocsr()
    items = method.first_vectors(reads.shape[1])
    found: list[torch.Tensor] = []

    def iterate() -> None:
        found.extend(method.iterations(reads, items, 1))

    ours = cpu_seconds(iterate)
    with patch.object(ials, "_solve_by_entries", ials._solve_by_factors):
        other = cpu_seconds(iterate)
    assert torch.allclose(*found, rtol=1e-3, atol=1e-4)
    return ours, other


def bare(folder: Path | None, quick: bool) -> dict[str, float]:
    """CPU seconds of filling pages of random scores alone."""
    _, histories = made_up(quick) if folder is None else real(folder)
    count, generator = histories.shape, np.random.default_rng(0)

    def fill() -> None:
        for first in range(0, count[0], PAGE):
            generator.random((min(PAGE, count[0] - first), count[1]), np.float32)

    return {"fit": 0.0, "score": cpu_seconds(fill)}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="a tables folder; default: a made-up catalogue")
    parser.add_argument("--only", nargs="+", help="names of baselines; default: all that can be")
    parser.add_argument("--quick", action="store_true", help="a tenth of the made-up catalogue")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lacking = NEEDS_DATA if options.data is None else {"times", "oracle"}
    names = options.only or [
        name
        for name in bricks("baseline").names()
        if name != "random" and not read_baseline(name).needs & lacking
    ]
    other = alone(bare, options.data, options.quick)
    parts = {}
    for name in names:
        found = alone(measured, name, options.data, options.quick)
        seconds = found.result
        print(
            f"{name:<20} fit {seconds['fit']:7.2f} s, score {seconds['score']:7.2f} s "
            f"(random numbers {other.result['score']:.2f} s), peak {found.mib:,.0f} MiB",
            flush=True,
        )
        ratio = other.result["score"] / max(seconds["score"], 1e-9)
        parts[name] = Part({**seconds, "mib": found.mib}, other.result["score"], ratio, True)
    if "ials" in names:
        ours, plain = alone(iteration, options.data, options.quick).result
        print(f"ials, an iteration    {ours:.2f} s; by a factorisation a row {plain:.2f} s")
        parts["ials iteration"] = Part(ours, plain, plain / max(ours, 1e-9), True)
    finish_parts("baselines", parts, dict.fromkeys(parts, "none"))


if __name__ == "__main__":
    main()
