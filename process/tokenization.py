"""Raw data as columns of ids: texts cut by the set's own words or a Hugging Face tokenizer.

Special tokens are left out: what a brick or a language model needs around a text, it adds itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from legos.data.manifest import WORDS
from legos.data.ragged import Ragged, RaggedArray, from_lengths, stack
from legos.data.spans import first_rows
from legos.data.tokenizers import (
    UNKNOWN,
    SubwordTokenizer,
    TextTokenizer,
    WordTokenizer,
    tokenizer_in_file,
)
from legos.errors import ConfigError, DataError
from legos.scratch import on_disk, pages
from process.raw import FurtherTable, Impressions, Numbered, RawData, TokenizerSpec
from process.ties import distinct

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def make_tokenizer(spec: TokenizerSpec, fields: Iterable[Sequence[str]]) -> TextTokenizer:
    """The tokenizer a spec asks for.

    Args:
        spec: name and source.
        fields: the texts of every text field; a ``words`` tokenizer takes its vocabulary from them.

    Raises:
        DataError: the source is neither known nor the folder of a tokenizer.
    """
    if spec.source == WORDS:
        return WordTokenizer.of_texts(fields)
    return SubwordTokenizer(spec.source, _subword(spec))


def _subword(spec: TokenizerSpec) -> Tokenizer:
    folder = Path(spec.source)
    if not folder.is_dir():
        return _of_language_model(spec)
    if (folder / "tokenizer.json").is_file():
        return tokenizer_in_file(folder / "tokenizer.json")
    from transformers import AutoTokenizer  # slow to import, needed for old folders only

    try:
        slow: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        backend: Tokenizer = slow.backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"--tokenizer {spec.name}={spec.source}: {folder} holds no tokenizer ({error})"
        ) from None
    return backend


def _of_language_model(spec: TokenizerSpec) -> Tokenizer:
    """The tokenizer of a packaged model or of a GGUF file."""
    from legos.lm.locate import PACKAGED

    if spec.source not in PACKAGED and not spec.source.endswith(".gguf"):
        raise DataError(
            f"--tokenizer {spec.name}={spec.source}: neither {WORDS!r}, "
            f"{', '.join(map(repr, PACKAGED))} nor a folder nor a .gguf file"
        )
    read = _packaged if spec.source in PACKAGED else _packaged.__wrapped__
    try:
        return read(spec.source)
    except ConfigError as error:
        raise DataError(f"--tokenizer {spec.name}={spec.source}: {error}") from None


@cache  # ten seconds for the 49,152 tokens of a GGUF file
def _packaged(source: str) -> Tokenizer:
    from legos.lm.locate import locate, packaged

    located = locate(packaged(source))
    if located.gguf is None:
        return tokenizer_in_file(located.folder / "tokenizer.json")
    from legos.lm.load import LanguageModel

    backend: Tokenizer = LanguageModel(packaged(source)).tokenizer
    return backend


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        values: ``(n,)`` scalars, or lists.
        vocabulary: the vocabulary its integers are ids of, if any.
    """

    values: np.ndarray | RaggedArray
    vocabulary: str | None = None


@dataclass
class Encoded:
    """Tables (name -> column name -> column) and vocabularies (name -> entries)."""

    tables: dict[str, dict[str, Column]] = field(default_factory=dict)
    vocabularies: dict[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What a source has encoded itself; it stays as it is.

    Attributes:
        columns: table -> column -> ids.
        vocabularies: by name; those of tokens are the tokenizers'.
        tokenizers: by name, what cuts new texts by the vocabulary of a text column.
    """

    columns: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)
    vocabularies: Mapping[str, list[str]] = field(default_factory=dict)
    tokenizers: Mapping[str, TextTokenizer] = field(default_factory=dict)


def encode(raw: RawData, tokenizers: Mapping[str, TextTokenizer], given: Given) -> Encoded:
    """Every table of a data set.

    Args:
        raw: the data set.
        tokenizers: what cuts every text field.
        given: columns that are ids already.
    """
    vocabularies = {name: category_vocabulary(values) for name, values in _categories(raw).items()}
    encoded = encode_interactions(raw)
    encoded.tables["items"] |= encode_texts(raw.texts, tokenizers)
    encoded.tables["items"] |= encode_content(
        raw.items,
        (),
        {name: vocabularies[name] for name in raw.category_fields},
        tokenizers,
        raw.number_fields,
    )
    if (fields := raw.user_fields) is not None:
        encoded.tables["users"] |= encode_content(
            fields.values,
            fields.texts,
            {name: vocabularies[name] for name in fields.categories},
            tokenizers,
            fields.numbers,
        )
    encoded.vocabularies |= vocabularies
    for name, table in raw.further.items():
        encoded.tables[name] = _further(name, table, tokenizers)
        encoded.vocabularies |= table.entries
    for name, columns in given.columns.items():
        encoded.tables[name] |= columns
    encoded.vocabularies |= given.vocabularies
    return encoded


def _categories(raw: RawData) -> dict[str, np.ndarray]:
    """The values of each category field; items and users share a field of one name."""
    found = {name: raw.items[name].to_numpy() for name in raw.category_fields}
    if (fields := raw.user_fields) is not None:
        for name in fields.categories:
            values = fields.values[name].to_numpy()
            found[name] = np.concatenate([found[name], values]) if name in found else values
    return found


def _further(
    table: str, raw: FurtherTable, tokenizers: Mapping[str, TextTokenizer]
) -> dict[str, Column]:
    columns = {
        name: Column(values, raw.vocabularies.get(name)) for name, values in raw.columns.items()
    }
    return columns | encode_texts(raw.texts, tokenizers, f"{table}: ")


def encode_texts(
    texts: Mapping[str, Sequence[str]], tokenizers: Mapping[str, TextTokenizer], table: str = ""
) -> dict[str, Column]:
    """The tokens of text fields, ``title@bert``; ``table`` begins what the progress bar says."""
    return {
        f"{name}@{label}": Column(tokenizer.encode(own, f"{table}{name} ({label})"), label)
        for name, own in texts.items()
        for label, tokenizer in tokenizers.items()
    }


def encode_content(
    items: pd.DataFrame,
    text_fields: tuple[str, ...],
    categories: Mapping[str, list[str]],
    tokenizers: Mapping[str, TextTokenizer],
    numbers: Iterable[str] = (),
) -> dict[str, Column]:
    """The text, category and number columns of the items.

    Args:
        items: one row an item.
        text_fields: its columns to tokenize.
        categories: its category columns and their vocabularies; what is missing or not in the
            vocabulary is ``<unknown>``.
        tokenizers: by name.
        numbers: its number columns.
    """
    columns = encode_texts({name: items[name].tolist() for name in text_fields}, tokenizers)
    for name, vocabulary in categories.items():
        ids = pd.Index(vocabulary, dtype=object).get_indexer(pd.Index(items[name], dtype=object))
        unknown = vocabulary.index(UNKNOWN) if UNKNOWN in vocabulary else 0
        columns[name] = Column(np.where(ids < 0, unknown, ids).astype(np.int32), name)
    for name in numbers:
        columns[name] = Column(items[name].to_numpy(np.float32))
    return columns


def category_vocabulary(values: np.ndarray) -> list[str]:
    """``<unknown>``, then the categories in order of first appearance."""
    found = pd.unique(values).tolist()
    return [UNKNOWN, *(value for value in found if value not in ("", UNKNOWN))]


def encode_interactions(raw: RawData) -> Encoded:
    """Every table but the items' content: ids, users, histories, splits."""
    encoded = Encoded()
    encoded.vocabularies["item_id"] = raw.items["item_id"].tolist()
    encoded.vocabularies["user_id"] = [str(user) for user in raw.users]
    encoded.tables["items"] = {"item_id": _own_id(len(raw.items), "item_id")}
    encoded.tables["users"] = {"user_id": _own_id(len(raw.users), "user_id")}
    states, histories = _histories(raw)
    encoded.tables["histories"] = histories
    for split, rows in raw.splits.items():
        vocabulary = f"impression_id@{split}"
        encoded.vocabularies[vocabulary] = _names(rows.impression_id)
        encoded.tables[split] = _split(rows, states[split], vocabulary)
    return encoded


def _names(impressions: np.ndarray | Numbered) -> Sequence[str]:
    return impressions if isinstance(impressions, Numbered) else list(map(str, impressions))


def _own_id(rows: int, vocabulary: str) -> Column:
    return Column(np.arange(rows, dtype=np.int32), vocabulary)


def _split(rows: Impressions, state: np.ndarray, vocabulary: str) -> dict[str, Column]:
    offsets = rows.candidate_offsets.astype(np.int64)
    shown = rows.candidate_values.astype(np.int32, copy=False)
    columns = {
        "impression_id": _own_id(len(rows), vocabulary),
        "user_id": Column(rows.user.astype(np.int32), "user_id"),
        "history": Column(state),
        "time": Column(rows.time.astype(np.int64)),
        "candidates": Column(Ragged(shown, offsets), "item_id"),
        "labels": Column(Ragged(rows.labels.astype(np.int8, copy=False), offsets)),
    }
    if rows.oracle is not None:
        columns["oracle"] = Column(Ragged(rows.oracle.astype(np.float32), offsets))
    return columns


def _histories(raw: RawData) -> tuple[dict[str, np.ndarray], dict[str, Column]]:
    """The distinct (user, history) states over all splits, in order of first appearance.

    Those of users in no split come last.

    Returns:
        per split ``(n,)`` int32 the row of each impression's state, and the table.
    """
    splits = list(raw.splits.values())
    if all(rows.history_starts is not None for rows in splits):
        return _shared_histories(raw)
    codes: list[np.ndarray] = []
    users: list[np.ndarray] = []
    states: list[RaggedArray] = []
    for rows in splits:
        lists = rows.histories
        code, first = distinct(lists, rows.user)
        codes.append(code)
        users.append(rows.user[first])
        states.append(lists.select(first))
    merged, user = stack(states), np.concatenate(users)
    code, first = distinct(merged, user)
    begins = np.cumsum([0, *(len(part) for part in users)])
    split_states = {
        split: code[begin + own].astype(np.int32)
        for split, own, begin in zip(raw.splits, codes, begins[:-1], strict=True)
    }
    table = {
        "user_id": Column(user[first].astype(np.int32), "user_id"),
        "items": Column(merged.select(first), "item_id"),
    }
    return split_states, table


def _shared_histories(raw: RawData) -> tuple[dict[str, np.ndarray], dict[str, Column]]:
    """The same of histories that lie in one array per user: told apart by where they lie.

    Nothing is hashed and every state is gathered once, since histories are most of the memory.
    """
    splits = list(raw.splits.values())
    width = 1 + max(len(rows.history_values) for rows in splits)
    keys = []
    for rows in splits:
        assert rows.history_starts is not None  # noqa: S101  # said by the caller
        lengths = rows.history_lengths
        begins = np.where(lengths > 0, rows.history_starts, width + rows.user.astype(np.int64))
        keys.append(begins * width + lengths)
    code, _ = pd.factorize(np.concatenate(keys))
    first = first_rows(code)
    bounds = np.cumsum([0, *map(len, splits)])
    of_split = np.searchsorted(bounds, first, side="right") - 1  # ascending, as the codes are
    asked = [first[of_split == number] - bounds[number] for number in range(len(splits))]
    sizes = [rows.history_lengths[own] for rows, own in zip(splits, asked, strict=True)]
    gathered: Iterable[np.ndarray] = (
        rows.histories_of(page).values
        for rows, own in zip(splits, asked, strict=True)
        for page in pages(own)
    )
    user = np.concatenate([rows.user for rows in splits])[first]
    if raw.unasked is not None:
        gathered = chain(gathered, [raw.unasked.items.values])
        sizes.append(raw.unasked.items.lengths)
        user = np.concatenate([user, raw.unasked.users])
    items = from_lengths(on_disk(gathered, np.int32), np.concatenate(sizes))
    states = {
        name: code[begin:end].astype(np.int32)
        for name, begin, end in zip(raw.splits, bounds[:-1], bounds[1:], strict=True)
    }
    table = {
        "user_id": Column(user.astype(np.int32), "user_id"),
        "items": Column(items, "item_id"),
    }
    return states, table
