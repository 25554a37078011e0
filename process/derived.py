"""Tables made of other tables: what has not changed is linked, not written again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from legos.errors import DataError
from process.columns import ColumnReader, ColumnWriter

_COMPUTED = ("format", "toolkit", "tables", "vocabularies", "tokenizers", "files", "fingerprint")


def refuse_nested(tables: Path, folder: Path) -> None:
    """The output takes the place of a whole folder, which must not be the source's.

    Raises:
        DataError: one of the folders is or holds the other.
    """
    source, target = tables.resolve(), folder.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise DataError(
            f"--output {folder}: is, holds or lies in --tables {tables}; choose another folder"
        )


def copy_of(reader: ColumnReader, part: Path) -> ColumnWriter:
    """Link every file of finished tables into ``part``; the writer knows them already."""
    shutil.copytree(reader.folder, part, copy_function=_link, dirs_exist_ok=True)
    writer = ColumnWriter(part)
    for name in ("vocabularies", "tokenizers"):
        getattr(writer, name).update(reader.manifest[name])
    for name, table in reader.manifest["tables"].items():
        writer.tables[name] = {"rows": table["rows"], "columns": dict(table["columns"])}
    return writer


def kept_entries(reader: ColumnReader) -> dict[str, Any]:
    """The entries of the manifest that a writer does not work out itself."""
    return {key: value for key, value in reader.manifest.items() if key not in _COMPUTED}


def _link(source: str, target: str) -> None:
    """A hard link where the disk has them; every writer replaces files, so none is changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
