"""Tables made of other tables: what has not changed is linked, not written again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from legos.data.ragged import RaggedArray
from legos.errors import DataError
from process.columns import ColumnReader, ColumnWriter, UniTokWriter
from process.tokenization import Column

_COMPUTED = ("format", "toolkit", "tables", "vocabularies", "tokenizers", "files", "fingerprint")


def refuse_nested(tables: Path, folder: Path) -> None:
    """The output takes the place of a whole folder, which must not be the source's.

    Raises:
        DataError: one of the folders is or holds the other.
    """
    source, target = tables.resolve(), folder.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise DataError(
            f"--output {folder}: equals, contains or is inside --tables {tables}; choose another "
            "folder"
        )


def copy_of(reader: ColumnReader, part: Path) -> ColumnWriter:
    """Link every file of finished tables into ``part``; the writer knows them already."""
    shutil.copytree(reader.folder, part, copy_function=_link, dirs_exist_ok=True)
    writer = ColumnWriter(part)
    for name in ("vocabularies", "tokenizers"):
        getattr(writer, name).update(reader.manifest[name])
    files = reader.manifest["files"]
    writer.kept = {name: described["sha256"] for name, described in files.items()}
    for name, table in reader.manifest["tables"].items():
        writer.tables[name] = {"rows": table["rows"], "columns": dict(table["columns"])}
    return writer


def kept_entries(reader: ColumnReader) -> dict[str, Any]:
    """The entries of the manifest that a writer does not work out itself."""
    return {key: value for key, value in reader.manifest.items() if key not in _COMPUTED}


def _link(source: str, target: str) -> None:
    """A hard link where the disk has them; every writer replaces files, so none is changed."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def rewrite_unitok(
    part: Path,
    reader: ColumnReader,
    changed: Mapping[str, Mapping[str, Column]],
    vocabularies: Mapping[str, Sequence[str]],
    names: Iterable[str],
) -> None:
    """Write tables of the UniTok copy anew, where there is one."""
    if not (part / "unitok").is_dir():
        return
    tables = {
        table: {**columns_of(reader, table), **changed.get(table, {})}
        for table in reader.manifest["tables"]
    }
    known = {name: reader.vocabulary(name) for name in reader.manifest["vocabularies"]}
    writer = UniTokWriter(tables, {**known, **vocabularies})
    for name in names:
        shutil.rmtree(part / "unitok" / name, ignore_errors=True)
        writer.write_table(part / "unitok", name)


def columns_of(reader: ColumnReader, table: str) -> dict[str, Column]:
    """Every column of a finished table."""
    columns: dict[str, Column] = {}
    for name, described in reader.manifest["tables"][table]["columns"].items():
        scalar = described["kind"] == "scalar"
        values: RaggedArray | np.ndarray = (
            reader.scalar(table, name) if scalar else reader.lists(table, name)
        )
        columns[name] = Column(values, described["vocabulary"])
    return columns
