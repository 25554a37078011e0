"""The results table in its three forms."""

from __future__ import annotations

import csv
import io

from rich.console import Console

from legos.run.table import ResultRow, csv_table, csv_text, markdown_table, print_table

ROWS = [
    ResultRow("random", {"GAUC": 0.5}),
    ResultRow(
        "naml", {"GAUC": 0.71234, "MRR": 0.25}, {"GAUC": 0.0011}, 3, 12345, 1.26, 0.5, 700.4,
        {"GAUC": "**"},
    ),
]  # fmt: skip


def test_the_printed_table_is_aligned_and_never_cut() -> None:
    target = io.StringIO()
    console = Console(file=target, width=20)
    print_table(console, "test", ROWS)
    lines = target.getvalue().splitlines()
    assert "0.7123 ± 0.0011**" in lines[-1]
    assert "12,345" in lines[-1]
    assert lines[1].index("GAUC") + len("GAUC") == lines[2].index("0.5000") + len("0.5000")
    assert console.width == 20


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert markdown_table(ROWS[:1]).splitlines()[0] == "|  | GAUC |"
    assert "s/epoch" in markdown_table(ROWS)


def test_csv_keeps_every_digit() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(csv_table(ROWS, "test")))))
    assert [line["method"] for line in lines] == ["random", "naml", "naml"]
    assert float(lines[1]["mean"]) == 0.71234
    assert lines[1]["seeds"] == "3"
