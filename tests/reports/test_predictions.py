"""Score files: order, ranks and ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from legos.reports.page import write_leaderboard, write_scores

OFFSETS = np.array([0, 3, 3, 5])
SCORES = np.array([0.1, 0.9, 0.5, 0.25, 0.25], dtype=np.float32)
NAMES = ["7", "8", "9"]


def test_scores_are_listed_best_first_with_raw_ids(tmp_path: Path) -> None:
    path = tmp_path / "scores.tsv"
    write_scores(path, NAMES, ["a", "b", "c"], np.array([0, 1, 2, 2, 0]), OFFSETS, SCORES)
    assert path.read_text().splitlines() == [
        "7\tb:0.9\tc:0.5\ta:0.1", "8", "9\tc:0.25\ta:0.25",
    ]  # fmt: skip


def test_ranks_stand_in_the_order_of_the_candidates(tmp_path: Path) -> None:
    path = tmp_path / "prediction.txt"
    write_leaderboard(path, NAMES, OFFSETS, SCORES)
    assert path.read_text().splitlines() == ["7 [3,1,2]", "8 []", "9 [1,2]"]
