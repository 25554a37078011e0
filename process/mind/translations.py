"""xMIND (Iana et al., SIGIR 2024, arXiv 2403.17876): MIND's news in other languages.

A folder of a language, as ``xMIND/ron`` unpacks, holds ``xMINDsmall_train/news.tsv``, ``_dev`` and
for large ``_test``: news id, title, abstract, without a header. The English texts stay; those of a
language become the fields ``title_ron`` and ``abstract_ron``, so that several languages fit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from legos.errors import DataError
from process.mind.behaviors import clean_texts
from process.tsv import find_file, header_rows, read_blocks, refuse_repeated, what_is_there

COLUMNS = ("news id", "title", "abstract")
_LANGUAGE = re.compile(r"[a-z]{2,8}")


@dataclass(frozen=True)
class Translated:
    """News with further texts.

    Attributes:
        items: the news; fields: names of the new columns, by language.
        paths: the files read.
    """

    items: pd.DataFrame
    fields: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


def translate(items: pd.DataFrame, folders: Sequence[Path], oddities: Counter[str]) -> Translated:
    """Give news their texts in other languages, "" where a language has none.

    Args:
        items: one row an article, ``item_id`` and more.
        folders: one a language, named by its code.
        oddities: counts what does not fit.

    Raises:
        DataError: a folder has no such file or no name of a language, a language comes twice, or a
            language has none of the news.
    """
    found = Translated(items)
    for folder in folders:
        language = folder.resolve().name.lower()
        fields = f"title_{language}", f"abstract_{language}"
        if not _LANGUAGE.fullmatch(language):
            raise DataError(
                f"--xmind {folder}: expected a folder named by a language, such as xMIND/ron"
            )
        if fields[0] in found.fields:
            raise DataError(f"--xmind {folder}: language {language!r} is given twice")
        paths = _files(folder)
        read = pd.concat([_read(path, oddities) for path in paths], ignore_index=True)
        texts = read.drop_duplicates("item_id").set_index("item_id")
        own = found.items["item_id"]
        known = own.isin(texts.index)
        if not known.any():
            raise DataError(f"{paths[0]}: none of its news ({texts.index[0]!r}, ...) is in MIND's")
        oddities[f"news without a text in {language}"] += int((~known).sum())
        oddities[f"texts in {language} of unknown news"] += int((~texts.index.isin(own)).sum())
        joined = texts.reindex(own).fillna("").reset_index(drop=True)
        more = {name: joined[column] for name, column in zip(fields, COLUMNS[1:], strict=True)}
        found = Translated(
            found.items.assign(**more), (*found.fields, *fields), (*found.paths, *paths)
        )
    return found


def _files(folder: Path) -> list[Path]:
    """Train before dev before test: of several texts of an article the first counts."""
    found = []
    for size in ("small", "large"):
        for split in ("train", "dev", "test"):
            path = find_file(folder / f"xMIND{size}_{split}", "news.tsv")
            found += [path] if path is not None else []
        if found:
            return found
    raise DataError(
        f"--xmind {folder}: no xMINDsmall_train/news.tsv or xMINDlarge_train/news.tsv"
        f"{what_is_there(folder)}"
    )


def _read(path: Path, oddities: Counter[str]) -> pd.DataFrame:
    frames, numbers = [], []
    for whole in read_blocks(path, COLUMNS):
        block = whole.without(header_rows(whole, "news id", ("nid", "news_id"), "title", "title"))
        columns = {name: clean_texts(block.columns[name], oddities) for name in COLUMNS[1:]}
        frames.append(pd.DataFrame({"item_id": block.columns["news id"], **columns}, dtype=object))
        numbers.append(block.numbers)
    read = pd.concat(frames, ignore_index=True)
    refuse_repeated(path, "news id", read["item_id"].to_numpy(), numbers)
    return read
