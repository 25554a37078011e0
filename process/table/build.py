"""From files or DataFrames to a folder of tables with its data YAML."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from legos.files import write_text
from legos.progress import PlainConsole
from legos.terminal import as_started
from process.raw import RawData, TokenizerSpec
from process.summary import refuse_no_tables
from process.table.assemble import read_own
from process.table.data_yaml import NAME, data_yaml, next_command
from process.table.languages import choose_tokenizers
from process.table.options import Options
from process.table.outdated import fingerprint_of, note_on, runs_on
from process.table.sources import Source, open_source
from process.table.telling import REPORT, report, tell_columns, tell_result
from process.tables import write_tables
from process.tokenization import Given

FileOrFrame = Path | pd.DataFrame | Source


def build_tables(
    items: Sequence[FileOrFrame],
    events: Sequence[FileOrFrame],
    users: Sequence[FileOrFrame],
    *,
    output: Path,
    name: str,
    options: Options,
    tokenizers: Sequence[TokenizerSpec] | None,
    force: bool,
    unitok: bool,
    verbose: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Read, tell, write, and say what to type next; returns the manifest.

    Args:
        items, events, users: files, DataFrames or sources that are open; users may be none.
        output: where the tables go.
        name: of the data set.
        options: what the user chooses.
        tokenizers: what cuts the texts; None: what knows them.
        force: replace tables of other sources or settings.
        unitok: also write the UniTok copy.
        verbose: print all that the report has.
        origin: what made the sources that are open, where other tables come of other settings.

    Raises:
        DataError: of files, options or the output folder.
    """
    refuse_no_tables(output)
    opened = [
        [_open(given, what, options) for given in group]
        for what, group in (("items", items), ("events", events), ("users", users))
    ]
    raw, reading = read_own(*opened, name=name, options=options)
    console = PlainConsole(width=max(PlainConsole().width, 120))
    if not verbose:
        tell_columns(reading, console)
    made = {"frames": _frames(opened), **({"origin": dict(origin)} if origin else {})}
    raw = replace(raw, settings={**raw.settings, **made})
    choice = choose_tokenizers(texts_of(raw), tokenizers)
    if choice.note and not verbose:
        console.print(f"note: {choice.note}")
    return write_with_yaml(
        raw, output, choice.specs, force=force, unitok=unitok, verbose=verbose,
        describe=partial(report, reading=reading, choice=choice),
    )  # fmt: skip


def write_with_yaml(
    raw: RawData,
    output: Path,
    tokenizers: Sequence[TokenizerSpec],
    *,
    force: bool,
    unitok: bool,
    given: Given | None = None,
    verbose: bool = False,
    describe: Callable[[Mapping[str, Any]], str] = report,
) -> dict[str, Any]:
    """Write tables with their data YAML and print what to type next; returns the manifest.

    Args:
        raw: the data set.
        output: where the tables go.
        tokenizers: what cuts the texts.
        force: replace tables of other sources or settings.
        unitok: also write the UniTok copy.
        given: columns that are made of ids already.
        verbose: print the report.
        describe: makes the text of the report from the manifest.

    Raises:
        DataError: of the output folder.
    """
    console = PlainConsole(width=max(PlainConsole().width, 120))

    def tell(manifest: Mapping[str, Any]) -> None:
        if verbose:
            print(describe(manifest))
        else:
            tell_result(manifest, output, console)

    def beside(manifest: Mapping[str, Any]) -> dict[str, str]:
        return {NAME: data_yaml(manifest, output), REPORT: describe(manifest)}

    before = fingerprint_of(output)
    manifest = write_tables(
        raw, output, tokenizers, force=force, unitok=unitok, given=given, beside=beside, tell=tell
    )
    if before not in (None, manifest["fingerprint"]) and (runs := runs_on(output, before)):
        console.print(note_on(runs, output, raw.name), markup=False, highlight=False)
    for name, text in beside(manifest).items():
        if not (output / name).is_file():  # tables that were there, without it
            write_text(output / name, text)
    print(f"the data YAML is {shlex.quote(str(output / NAME))}; next, train a first model:")
    print(f"  {as_started(next_command(output))}")
    return manifest


def _open(given: FileOrFrame, what: str, options: Options) -> Source:
    if not isinstance(given, Path | pd.DataFrame):
        return given
    return open_source(given, what, encoding=options.encoding, quotes=options.quotes)


def texts_of(raw: RawData) -> dict[str, Sequence[str]]:
    """All texts that are cut, by field; those of users and of further tables with their tables."""
    texts = raw.texts
    if raw.user_fields is not None:
        for name in raw.user_fields.texts:
            texts[f"users.{name}"] = raw.user_fields.values[name].tolist()
    for table, further in raw.further.items():
        texts |= {f"{table}.{name}": column for name, column in further.texts.items()}
    return texts


def _frames(opened: Sequence[Sequence[Source]]) -> list[str]:
    """A hash of every DataFrame: it is no file whose content the manifest could name."""
    return [source.digest for group in opened for source in group if source.path is None]
