"""What a manifest says of a data set: where it comes from, and what it is like in numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from legos.data.honesty import read_honesty
from legos.data.manifest import MANIFEST, read_manifest
from legos.data.ragged import Ragged, RaggedArray
from legos.data.tokenizers import TextTokenizer
from legos.errors import DataError
from legos.files import recover_folder, sha256_of_file
from legos.progress import PlainConsole
from legos.scratch import pages
from process.honesty import print_honesty
from process.honesty.rules import percent
from process.raw import TRAIN, Impressions, RawData
from process.tokenization import Column, Encoded

QUANTILES = (10, 50, 90, 99, 100)
LENGTH_OF = {"title": 30}  # tokens the shipped configurations keep of a field
OTHER_LENGTH = 50
MARKS = "p50/p90/p99/max"


def summarise(
    raw: RawData, encoded: Encoded, lengths: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The numbers of the summary table.

    Args:
        raw: the data set.
        encoded: its columns.
        lengths: tokens that will be kept of a text field, to say how many texts are cut.
    """
    train = _train_items(raw)
    kept = LENGTH_OF | dict(lengths or {})
    summary: dict[str, Any] = {
        "items": len(raw.items),
        "users": len(raw.users),
        "splits": {
            split: _split_summary(rows, None if split == TRAIN else train)
            for split, rows in raw.splits.items()
        },
        "history_states": len(_lists(encoded.tables["histories"]["items"]).lengths),
        "text": {
            name: _text_summary(_lists(column), kept.get(name.split("@")[0], OTHER_LENGTH))
            for name, column in encoded.tables["items"].items()
            if isinstance(column.values, Ragged)
        },
        "categories": {
            name: len(encoded.vocabularies[name]) - 1
            for name in raw.category_fields
            if name in encoded.vocabularies
        },
    }
    if numbers := _numbers(raw):
        summary["numbers"] = numbers
    if raw.further:
        summary["further"] = {name: len(table) for name, table in raw.further.items()}
    if raw.time_ties is not None:
        summary["time_ties"] = {
            "interactions": raw.time_ties.interactions,
            "tied": raw.time_ties.tied,
            "percent": round(100 * raw.time_ties.share, 2),
        }
    return summary


def print_summary(manifest: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the summary of a finished manifest as tables."""
    console = console or PlainConsole(width=max(PlainConsole().width, 120))
    summary = manifest["summary"]
    size = (
        f" ({manifest['layout']}): {summary['items']:,} items, {summary['users']:,} users, "
        f"{summary['history_states']:,} history states"
    )
    console.print(Text.assemble((manifest["name"], "bold"), size))
    console.print(f"split {manifest['split_rule']}", highlight=False)
    console.print(_split_table(summary["splits"]))
    if summary["text"]:
        console.print(_text_table(summary["text"]))
    for name, count in summary["categories"].items():
        console.print(f"category field {name}: {count:,} different values", highlight=False)
    for name, known in summary.get("numbers", {}).items():
        console.print(
            f"number field {name}: {known['known']:,} known, median {known['median']:g}, "
            f"{known['least']:g} to {known['most']:g}",
            highlight=False,
        )
    for name, rows in summary.get("further", {}).items():
        console.print(f"table {name}: {rows:,} rows", highlight=False)
    if "time_ties" in summary:
        ties = summary["time_ties"]
        console.print(
            f"time ties: {ties['tied']:,} of {ties['interactions']:,} interactions "
            f"({ties['percent']} %) share their time with another of the same user; they are "
            "ordered by a seeded hash of user and item",
            highlight=False,
        )
    for what, count in manifest["oddities"].items():
        console.print(f"note: {what}: {count:,}", highlight=False)
    honesty = read_honesty(manifest)
    if honesty is not None:
        print_honesty(honesty, console)


def _numbers(raw: RawData) -> dict[str, dict[str, float]]:
    """By number field, a user's as ``users.<name>``, how many are known and what they are like."""
    columns = {name: raw.items[name] for name in raw.number_fields}
    if (fields := raw.user_fields) is not None:
        columns |= {f"users.{name}": fields.values[name] for name in fields.numbers}
    found = {}
    for name, column in columns.items():
        known = column.dropna().to_numpy(np.float64)
        marks = np.percentile(known, (0, 50, 100)) if len(known) else np.zeros(3)
        least, median, most = marks.tolist()
        found[name] = {"known": len(known), "least": least, "median": median, "most": most}
    return found


@dataclass(frozen=True)
class _TrainItems:
    """``(items,)`` bool each: which items train shows at all, and which it says someone read."""

    seen: np.ndarray
    read: np.ndarray


def _train_items(raw: RawData) -> _TrainItems | None:
    """None without a train split."""
    if TRAIN not in raw.splits:
        return None
    train = raw.splits[TRAIN]
    read = np.zeros(len(raw.items), dtype=bool)
    read[train.candidate_values[train.labels == 1]] = True
    for page in pages(np.arange(len(train))):
        read[train.histories_of(page).values] = True
    seen = read.copy()
    seen[train.candidate_values] = True
    return _TrainItems(seen, read)


def _split_summary(rows: Impressions, train: _TrainItems | None) -> dict[str, Any]:
    clicked = rows.labels == 1
    shown = Ragged(rows.candidate_values, rows.candidate_offsets)
    summary: dict[str, Any] = {
        "impressions": len(rows),
        "users": len(np.unique(rows.user)),
        "candidates": len(rows.candidate_values),
        "clicks": int(clicked.sum()),
        "unlabelled": int((rows.labels < 0).sum()),
        "no_click_impressions": len(rows) - _rows_with(shown, clicked),
        "without_time": int((rows.time < 0).sum()),
        "empty_histories": int((rows.history_lengths == 0).sum()),
        "history_length": _quantiles(rows.history_lengths),
    }
    if train is not None:
        for name, items in (("cold", train.seen), ("unread", train.read)):
            new = ~items[rows.candidate_values]
            summary[f"{name}_candidates_percent"] = percent(new)
            summary[f"{name}_clicks_percent"] = percent(new[clicked])
    return summary


def _rows_with(lists: RaggedArray, mask: np.ndarray) -> int:
    """How many rows have an element where ``mask`` ``(P,)`` is True."""
    places = np.flatnonzero(mask)
    return len(np.unique(np.searchsorted(lists.offsets, places, side="right")))


def _text_summary(tokens: RaggedArray, length: int) -> dict[str, Any]:
    return {
        "tokens": _quantiles(tokens.lengths),
        "empty": int((tokens.lengths == 0).sum()),
        "kept": length,
        "truncated_percent": percent(tokens.lengths > length),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    marks = np.percentile(values, QUANTILES, method="lower") if len(values) else [0] * 5
    named = {f"p{mark}": float(value) for mark, value in zip(QUANTILES, marks, strict=True)}
    return {"mean": round(float(values.mean()), 2) if len(values) else 0.0, **named}


def _lists(column: Column) -> RaggedArray:
    assert isinstance(column.values, Ragged)  # noqa: S101  # a caller's mistake, not a user's
    return column.values


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _split_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        "splits (share of candidates / of clicks: cold = in no candidate list and no history of "
        "train, unread = in no click and no history of train)"
    )
    table.add_column("split")
    heads = ("impressions", "users", "candidates", "clicks", "no history")
    for head in (*heads, f"history {MARKS}", "cold", "unread"):
        table.add_column(head, justify="right")
    for name, row in splits.items():
        table.add_row(
            name,
            f"{row['impressions']:,}",
            f"{row['users']:,}",
            f"{row['candidates']:,}",
            "unlabelled" if row["unlabelled"] == row["candidates"] else f"{row['clicks']:,}",
            f"{row['empty_histories']:,}",
            _marks(row["history_length"]),
            _shares(row, "cold"),
            _shares(row, "unread"),
        )
    return table


def _text_table(texts: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("tokens of the item texts")
    table.add_column("column")
    for head in ("mean", MARKS, "no text", "length", "cut to it"):
        table.add_column(head, justify="right")
    for name, row in texts.items():
        table.add_row(
            name,
            f"{row['tokens']['mean']:.1f}",
            _marks(row["tokens"]),
            f"{row['empty']:,}",
            f"{row['kept']}",
            f"{row['truncated_percent']:.2f} %",
        )
    return table


def _shares(row: Mapping[str, Any], name: str) -> str:
    if f"{name}_clicks_percent" not in row:
        return "–"
    return f"{row[f'{name}_candidates_percent']:.1f}/{row[f'{name}_clicks_percent']:.1f} %"


def _marks(quantiles: Mapping[str, float]) -> str:
    return "/".join(f"{quantiles[f'p{mark}']:.0f}" for mark in QUANTILES[1:])


def describe_settings(
    raw: RawData, tokenizers: Mapping[str, TextTokenizer], *, unitok: bool
) -> dict[str, Any]:
    """What decides the tables besides the sources; other settings = other tables."""
    settings = {
        "name": raw.name,
        "layout": raw.layout,
        "split_rule": raw.split_rule,
        "splits": list(raw.splits),
        "fields": _fields(raw.text_fields, raw.category_fields, raw.number_fields),
        "tokenizers": {name: [made.source, made.sha256] for name, made in tokenizers.items()},
        "unitok": unitok,
        "reader": dict(raw.settings),
    }
    if (fields := raw.user_fields) is not None:
        settings["user_fields"] = _fields(fields.texts, fields.categories, fields.numbers)
    if raw.further:
        settings["further"] = {name: sorted(table.texts) for name, table in raw.further.items()}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _fields(*kinds: Sequence[str]) -> list[list[str]]:
    """Names of texts, categories and, where there are any, numbers."""
    named = [list(kind) for kind in kinds]
    return named if named[-1] else named[:-1]


def describe_sources(sources: Iterable[Path]) -> list[dict[str, Any]]:
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sources
    ]


def refuse_no_tables(folder: Path) -> None:
    """Raise DataError for an output folder that holds something else; worth asking early."""
    is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_empty and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: exists and holds no tables, so it will not be replaced; "
            "choose another --output or remove it"
        )


def finished_tables(
    folder: Path, settings: dict[str, Any], sources: list[dict[str, Any]], *, force: bool
) -> dict[str, Any] | None:
    """The manifest when exactly these tables already exist; None when they must be written.

    Raises:
        DataError: other or damaged tables are there, or a folder that holds no tables.
    """
    recover_folder(folder)
    refuse_no_tables(folder)
    if force or not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    hashes = [source["sha256"] for source in sources]
    other = [
        key
        for key in {**settings, **manifest.get("settings", {})}
        if settings.get(key) != manifest.get("settings", {}).get(key)
    ]
    if hashes != [source["sha256"] for source in manifest["sources"]]:
        other.insert(0, "source files")
    if other:
        raise DataError(
            f"{folder}: holds finished tables made with other {', '.join(other)}; add --force to "
            "replace them, or choose another --output"
        )
    print(f"{folder}: up to date, made from the same sources with the same settings")
    return manifest
