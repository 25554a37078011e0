"""Shared code of the commands that query a trained run: options, opening it, printing lists."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from legos.command_line import CommandParser
from legos.errors import ConfigError, run_command
from legos.progress import PlainConsole, announced

if TYPE_CHECKING:
    import pandas as pd

    from legos.recommend.run import TrainedRun

_RUN = "run folder, folder of runs (its newest trained run), or the first digits of a run id"


class AskingParser(CommandParser):
    """Options of a command that queries a trained run.

    Args:
        command: its name.
        about: what it does.
        examples: command lines, each with what it does.
    """

    def __init__(self, command: str, about: str, examples: str) -> None:
        super().__init__(
            f"legos {command}",
            description=about,
            epilog=f"examples:\n{examples}",
            allow_abbrev=False,
        )
        self.add_argument("run", metavar="RUN", help=_RUN)
        self.add_argument(
            "--data", metavar="FOLDER", help="folder of the tables, if they were moved"
        )
        self.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto)")
        self.add_argument(
            "--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
            help="override a setting that does not affect training, such as "
            "model.predictor.weights.category -0.3 for MANNeR; may be repeated",
        )  # fmt: skip
        self.add_argument("--json", action="store_true", help="print JSON")


def run_asking(
    parser: AskingParser,
    words: Sequence[str],
    answer: Callable[[TrainedRun, argparse.Namespace], None],
) -> int:
    """Read a command line, open its run and answer; returns the exit code."""

    def ask(words: Sequence[str]) -> None:
        given = parser.parse_args(words)
        with announced(f"loading {given.run} ..."):
            from legos.recommend.open import open_run  # torch takes a second

            settings = _settings(given.set)
            run = open_run(
                given.run, data=given.data, device=given.device, settings=settings, called="--set"
            )
            with _together(run), _named(run, given.run):
                answer(run, given)

    return run_command(ask, words, interrupted="interrupted; no partial output was left")


def _settings(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Keys and values of ``--set``; a value is read as in a YAML."""
    from legos.config.yaml_files import parse_value

    found: dict[str, Any] = {}
    for key, text in pairs:
        if key in found:
            raise ConfigError(f"--set: {key}: given twice, {found[key]!r} and {text!r}")
        try:
            found[key] = parse_value(text)
        except ConfigError as error:
            raise ConfigError(f"--set: {key}: {error}") from None
    return found


@contextmanager
def _named(run: TrainedRun, asked: str) -> Iterator[None]:
    """Add to an error which run a folder of runs resolved to."""
    try:
        yield
    except ConfigError as error:
        if run.folder.name.startswith(Path(asked).name):
            raise
        raise ConfigError(f"{error} ({run.name} is the newest trained run of {asked})") from error


def _together(run: TrainedRun) -> AbstractContextManager[None]:
    """Leave the process group on exit, if there are several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return nullcontext()
    from legos.workplace.device import joined_processes

    return joined_processes(run.accelerator)


def with_title(run: TrainedRun, item: str) -> str:
    """Return the id of an item, followed by its title if it has one.

    Raises:
        DataError: there is no such item.
    """
    title = run.catalogue.titles(run.catalogue.numbers([item]).numpy())[0]
    return f"{item}, {title}" if title else item


def positive(text: str) -> int:
    """A number of items, from 1 on (for argparse)."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of items, such as 10")
    return int(text)


def read_names(path: Path, column: str, own: str) -> list[str]:
    """Read ids from a file: one per line, or a column of a .csv, .jsonl or .parquet file.

    Args:
        path: of the file.
        column: name of the column.
        own: alternative name of the column.

    Raises:
        ConfigError: there is no such file, column or id.
    """
    if path.suffix in (".csv", ".jsonl", ".parquet"):
        frame = read_frame(path)
        named = [name for name in (column, own) if name in frame]
        if not named:
            either = " or ".join(map(repr, dict.fromkeys((column, own))))
            found = ", ".join(map(str, frame.columns))
            raise ConfigError(f"{path}: no column {either}; found {found}")
        column = named[0]
        names = frame[column].astype(str).tolist()
    else:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigError(f"{path}: no {column} in it")
    return list(dict.fromkeys(names))


def read_frame(path: Path) -> pd.DataFrame:
    """A .csv, .jsonl or .parquet file, whose ids and texts stay texts.

    Raises:
        ConfigError: there is no such file, or it is none of these.
    """
    import pandas as pd

    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, UnicodeDecodeError) as error:  # pyarrow's errors are ValueErrors, too
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    raise ConfigError(f"{path}: expected a file that ends with .csv, .jsonl, .parquet")


def print_frame(title: str, frame: pd.DataFrame) -> None:
    """A list on a terminal."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        is_number = frame[name].dtype.kind == "f"
        table.add_column(str(name), justify="right" if is_number else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    PlainConsole().print(table)


def print_json(value: Any) -> None:
    """A value for other programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def listed(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A list as JSON has it."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return rows
