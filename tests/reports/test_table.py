"""The results table in its three forms."""

from __future__ import annotations

import csv
import io

from rich.console import Console

from legos.reports.rows import ResultRow
from legos.reports.tables import (
    csv_table,
    csv_text,
    markdown_table,
    print_table,
    relative_cells,
    value_cells,
)

ROWS = [
    ResultRow("random", {"GAUC": 0.5}),
    ResultRow(
        "naml", {"GAUC": 0.71234, "MRR": 0.25}, {"GAUC": 0.0011}, 3, 12345, 1.26, 0.5, 700.4,
        "pooling", {"GAUC": "**"}, {"GAUC": -1.234},
    ),
]  # fmt: skip


def test_the_printed_table_is_aligned_and_never_cut() -> None:
    target = io.StringIO()
    console = Console(file=target, width=20)
    print_table(console, "test", value_cells(ROWS))
    lines = target.getvalue().splitlines()
    assert "0.7123 ± 0.0011**" in lines[-1]
    assert "12,345" in lines[-1]
    assert lines[1].index("GAUC") + len("GAUC") == lines[2].index("0.5000") + len("0.5000")
    assert console.width == 20


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert markdown_table(value_cells(ROWS[:1])).splitlines()[0] == "|  | GAUC |"
    assert "s/epoch" in markdown_table(value_cells(ROWS))


def test_csv_keeps_every_digit() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(csv_table(ROWS, "test")))))
    assert [line["method"] for line in lines] == ["random", "naml", "naml"]
    assert float(lines[1]["mean"]) == 0.71234
    assert lines[1]["seeds"] == "3"
    assert [line["reference"] for line in lines] == ["", "pooling", "pooling"]
    assert [line["relative"] for line in lines] == ["", "-1.234", ""]


def test_only_rows_with_a_reference_have_a_relative_improvement() -> None:
    assert markdown_table(relative_cells(ROWS)).splitlines() == [
        "|  | reference | GAUC |",
        "| --- | --- | --: |",
        "| naml | pooling | -1.23** |",
    ]
    assert len(relative_cells(ROWS[:1])) == 1
