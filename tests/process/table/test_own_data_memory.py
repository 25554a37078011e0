"""How much memory an event takes, from the file to the finished tables."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.process.table.own import build

MOST = 400  # bytes an event


def shop(folder: Path, events: int) -> tuple[Path, Path]:
    """Ten events a user, 500 items."""
    generator = np.random.default_rng(0)
    ids = [f"S{number}" for number in range(500)]
    folder.mkdir()
    pd.DataFrame({"sku": ids, "title": "a thing of steel"}).to_csv(
        folder / "items.csv", index=False
    )
    log = {
        "user": [f"c{number}" for number in generator.integers(0, events // 10, events)],
        "sku": generator.choice(ids, events),
        "ts": 1_735_689_600_000 + generator.integers(0, 10**10, events),
        "event": generator.choice(["view", "cart", "purchase"], events),
    }
    pd.DataFrame(log).to_csv(folder / "events.csv", index=False)
    return folder / "items.csv", folder / "events.csv"


@pytest.mark.slow
def test_an_event_takes_at_most_400_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("process.table.sources.ROWS_A_BLOCK", 1 << 11)
    monkeypatch.setattr("process.table.parting.MOST_99", 100)
    peaks = {}
    for events in (1_000, 10_000, 30_000):  # the first one imports
        files = shop(tmp_path / str(events), events)
        tracemalloc.start()
        try:
            build(*files, tmp_path / f"out{events}")
            _, peaks[events] = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    slope = (peaks[30_000] - peaks[10_000]) / 20_000
    assert slope < MOST, f"{slope:.0f} bytes an event"
