"""Are these tables there already? What decides a tables folder, compared before writing it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from legos.data.columns import MANIFEST, read_manifest
from legos.errors import DataError
from legos.files import recover_folder, sha256_of_file
from process.raw import RawData
from process.summary import print_summary
from process.tokenization import TextTokenizer


def describe_settings(
    raw: RawData, tokenizers: Mapping[str, TextTokenizer], *, unitok: bool
) -> dict[str, Any]:
    """What decides the tables besides the sources; other settings = other tables."""
    settings = {
        "name": raw.name,
        "layout": raw.layout,
        "split_rule": raw.split_rule,
        "splits": list(raw.splits),
        "fields": [list(raw.text_fields), list(raw.category_fields)],
        "tokenizers": {name: [made.source, made.sha256] for name, made in tokenizers.items()},
        "unitok": unitok,
        "reader": dict(raw.settings),
    }
    if raw.further:
        settings["further"] = {name: sorted(table.texts) for name, table in raw.further.items()}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def describe_sources(sources: Iterable[Path]) -> list[dict[str, Any]]:
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sources
    ]


def finished_tables(
    folder: Path, settings: dict[str, Any], sources: list[dict[str, Any]], *, force: bool
) -> dict[str, Any] | None:
    """The manifest when exactly these tables are there already; None when they must be written.

    Raises:
        DataError: other or damaged tables are there, or a folder that holds no tables.
    """
    recover_folder(folder)
    if not (folder / MANIFEST).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(
                f"{folder}: exists and holds no tables, so it will not be replaced; "
                "choose another --output or remove it"
            )
        return None
    if force:
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
    print(f"{folder}: already there, made from the same sources with the same settings")
    print_summary(manifest)
    return manifest
