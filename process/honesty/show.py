"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from legos.data.honesty import RULES, Honesty, RuleResult

NONE = "–"


def print_honesty(report: Honesty, console: Console) -> None:
    """Print what was measured, and the warnings last, where they are seen."""
    if report.splits:
        for title, parts in (
            ("rules that read no content: GAUC among the candidates shown (chance .500)", "gauc"),
            ("the same: share of clicks among the first ten of all items", "hits_at_10"),
        ):
            table = _shown_rules(report, title, parts)
            if table.row_count:
                console.print(table)
    if report.texts:
        console.print(_shown_texts(report))
    for line in facts(report):
        console.print(line)
    if not report.warnings:
        console.print("no warning: nothing is above its bound")
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "bold yellow"), warning.text))


def facts(report: Honesty) -> list[str]:
    """What is no table: times and repetitions, a line each."""
    lines = []
    times = report.times
    if times is None:
        lines.append("times: none, so the order of interactions is the source's own")
    else:
        lines.append(
            f"times of {times.source}: {times.known:,} from {times.earliest or NONE} to "
            f"{times.latest or NONE}, {times.unknown:,} unknown; {times.tied:.1f} % of the "
            f"{times.tied_of} at the time of another one of their user, {times.dates:.1f} % dates "
            f"without an hour, {times.before_1995:,} before 1995, {times.in_future:,} in the future"
        )
    lines.append(
        f"items: {report.items_without_text:,} of {report.items:,} without a text, "
        f"{report.items_of_same_text:,} with only texts that an earlier item has"
    )
    for name, split in report.splits.items():
        if split.known_clicks or split.repeated_candidates:
            lines.append(
                f"{name}: {split.known_clicks:.2f} % of the clicks on items of the history, "
                f"{split.repeated_candidates:.2f} % of the impressions list an item twice"
            )
    sampled = {n: s.measured for n, s in report.splits.items() if s.measured < s.impressions}
    if sampled:
        lines.append(
            f"rules of {', '.join(sampled)} measured on {max(sampled.values()):,} impressions, "
            f"drawn by seed {report.seed}"
        )
    return lines


def _shown_rules(report: Honesty, title: str, part: str) -> Table:
    splits = report.splits
    if part == "hits_at_10":
        splits = {name: split for name, split in splits.items() if split.chance_at_10 is not None}
    table = _table(title, "rule", list(splits))
    for rule, what in RULES.items():
        values = [getattr(s.rules.get(rule, RuleResult()), part) for s in splits.values()]
        if any(value is not None for value in values):
            cells = [NONE if value is None else f"{value:.4f}" for value in values]
            table.add_row(f"{rule}: {what}", *cells)
    if part == "hits_at_10" and table.row_count:
        chances = [split.chance_at_10 for split in splits.values()]
        table.add_row("chance", *(NONE if c is None else f"{c:.4f}" for c in chances))
    return table


def _shown_texts(report: Honesty) -> Table:
    tokenizers = list(dict.fromkeys(n for text in report.texts.values() for n in text.unknown))
    heads = ["texts", "empty", "with markup", *(f"unknown to {name}" for name in tokenizers)]
    table = _table("texts", "field", heads)
    for field, text in report.texts.items():
        unknown = [text.unknown.get(name) for name in tokenizers]
        table.add_row(
            field,
            f"{text.texts:,}",
            f"{text.empty:.2f} %",
            f"{text.markup:.2f} %",
            *(NONE if share is None else f"{share:.2f} %" for share in unknown),
        )
    return table


def _table(title: str, first: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for head in heads:
        table.add_column(head, justify="right")
    return table
