"""What CLLM4Rec reads of tables: who has which items in training, and the texts of its corpora.

Nothing of a held-out pair is read: items are those of training impressions and of the histories
before them, reviews those of training pairs (``legos.data.reviews`` refuses others).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.config.model_schema import DataConfig
from legos.data.items import Interactions
from legos.data.ragged import Ragged, from_lengths, offsets_of
from legos.data.reviews import TABLE as REVIEWS
from legos.data.reviews import Reviews
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError, nearest
from legos.files import atomic_path, write_array, write_json
from legos.lm.hidden_files import (
    FACTS,
    FORMAT,
    MANIFEST,
    Content,
    content_of,
    content_problem,
    fingerprint,
    leftovers,
    lock,
    read_facts,
    read_json,
)
from legos.lm.load import LanguageModel
from legos.records import Record, check_offsets, read_array
from legos.systems.cllm4rec.batches import CONTENT_KINDS, content_kind
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.tokenizer import SoftTokenizer
from legos.workplace.workplace import Workplace

_OF_PAIRS = ("review", "explanation")
_OF_USERS = ("biography",)
_OF_FIELDS = ("title", "brand", "description", "categories")
_ALL_FIELDS = "content"
_UNKNOWN = "<unknown>"


@dataclass(frozen=True)
class Corpus:
    """Texts of one kind or of several, in order.

    Attributes:
        kinds: ``(R,)`` int64 rows of ``templates.CONTENT_KINDS``.
        users: ``(R,)`` int64; -1 where a kind names none.
        items: ``(R,)`` int64; -1 where a kind names none.
        texts: R texts, none of them empty.
    """

    kinds: Tensor
    users: Tensor
    items: Tensor
    texts: list[str]


def train_items(tables: Tables, train: Interactions) -> Ragged:
    """The distinct items, ascending, that every user has in training: I rows of int64.

    They are the clicks of the training split and what stands in its histories, uncut.
    """
    clicked = train.labels == 1
    states = train.history_rows.unique()
    read = tables.lists("histories", "items")
    histories = Ragged(read.values.long(), read.offsets).select(states.cpu())
    owners = train.history_users[states].cpu()[histories.rows]
    users = torch.cat([train.users[train.candidates.rows[clicked]].cpu(), owners])
    items = torch.cat([train.candidates.values[clicked].cpu(), histories.values])
    return distinct_rows(users, items, rows=tables.num_users, width=tables.num_items)


def distinct_rows(rows_of: Tensor, items: Tensor, *, rows: int, width: int) -> Ragged:
    """Pairs ``(P,)`` of a row and an item, each once -> rows of ascending items."""
    keys = torch.unique(rows_of * width + items)
    return from_lengths(keys % width, torch.bincount(keys // width, minlength=rows))


def known_kinds(data: DataConfig, tables: Tables) -> list[str]:
    """The kinds of text that these data have, in the order of ``CONTENT_KINDS``."""
    reviews = tables.manifest.get("table_fields", {}).get(REVIEWS, {})
    users = tables.manifest.get("table_fields", {}).get("users", {})
    fields = {field.name for field in data.fields}
    found = {_ALL_FIELDS} if fields else set()
    found |= {kind for kind in _OF_PAIRS if kind in reviews}
    found |= {kind for kind in _OF_USERS if kind in users}
    found |= {kind for kind in _OF_FIELDS if kind in fields}
    return [kind for kind in CONTENT_KINDS if kind in found]


def chosen_kinds(asked: Sequence[str], data: DataConfig, tables: Tables) -> list[str]:
    """The kinds that ``model.content.kinds`` asks for; none asked for: all but `content`.

    Raises:
        ConfigError: the data have no such texts, or no texts at all.
    """
    known = known_kinds(data, tables)
    for kind in asked:
        content_kind(kind)
        if kind not in known:
            raise ConfigError(
                f"model.content.kinds: {data.name} has no texts of kind {kind!r}; "
                f"{nearest(kind, known)}"
            )
    kinds = [kind for kind in CONTENT_KINDS if kind in asked]
    kinds = kinds or [kind for kind in known if kind != _ALL_FIELDS]
    if not kinds:
        joined = "content.kinds to [content] for all its fields in one, or " if data.fields else ""
        raise ConfigError(
            f"model.content: {data.name} has neither reviews nor a field called "
            f"{', '.join(_OF_FIELDS)}; set {joined}content.enabled to false"
        )
    return kinds


def read_corpus(kinds: Sequence[str], data: DataConfig, tables: Tables) -> Corpus:
    """The texts of some kinds; what is empty is left out."""
    numbers: list[Tensor] = []
    columns: list[tuple[Tensor, Tensor]] = []
    texts: list[str] = []
    for kind in kinds:
        for users, items, found in _texts_of(kind, data, tables):
            kept = [row for row, text in enumerate(found) if text.strip()]
            index = torch.tensor(kept, dtype=torch.int64)
            numbers.append(torch.full((len(kept),), content_kind(kind)))
            columns.append((users[index], items[index]))
            texts += [found[row] for row in kept]
    return Corpus(
        torch.cat(numbers),
        torch.cat([users for users, _ in columns]),
        torch.cat([items for _, items in columns]),
        texts,
    )


def _texts_of(
    kind: str, data: DataConfig, tables: Tables
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Users, items and texts of one kind."""
    if kind in _OF_PAIRS:
        reviews = Reviews.from_tables(tables)
        yield reviews.users, reviews.items, reviews.texts[kind]
    elif kind in _OF_USERS:
        users = torch.arange(tables.num_users)
        yield users, torch.full_like(users, -1), tables.texts(kind, table="users")
    else:
        names = [field.column.split("@")[0] for field in data.fields]
        if kind != _ALL_FIELDS:
            names = [names[[field.name for field in data.fields].index(kind)]]
        columns = [_item_texts(tables, name) for name in names]
        items = tables.offered.nonzero()[:, 0]  # not what a model wrote
        joined = [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
        yield torch.full_like(items, -1), items, [joined[item] for item in items.tolist()]


def _item_texts(tables: Tables, column: str) -> list[str]:
    if tables.manifest["fields"].get(column, {}).get("kind") == "text":
        return tables.texts(column)
    names = tables.vocabulary(tables.column("items", column)["vocabulary"])
    values = tables.scalar("items", column).tolist()
    return ["" if names[value] == _UNKNOWN else names[value] for value in values]


PART_TEXTS = 20_000  # what a kill may cost
_PARTS = "parts"
_COLUMNS = ("values", "offsets", "kinds", "users", "items")

Encode = Callable[[Sequence[str]], Ragged]
"""Texts to int32 token ids, a row a text."""


class _Files(Record):
    """Sizes and hashes by file name."""

    files: dict[str, Content]


@dataclass(frozen=True)
class TokenizedCorpus:
    """What a store holds.

    Attributes:
        kinds, users, items: ``(R,)`` int64, see :class:`legos.systems.cllm4rec.corpus.Corpus`.
        texts: R rows of int32 token ids, mapped from disk.
    """

    kinds: Tensor
    users: Tensor
    items: Tensor
    texts: Ragged


class TokenStore:
    """The store of one corpus and one tokenizer.

    Args:
        folder: of the stores of this tokenizer.
        facts: JSON-able, everything that decides the ids; other facts are another store.

    Attributes:
        path: where it lies, ``folder/<fingerprint>``.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.facts: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
        self.path = folder / fingerprint(self.facts)

    @property
    def finished(self) -> bool:
        """Whether it can be opened."""
        return (self.path / MANIFEST).is_file()

    def open(self) -> TokenizedCorpus:
        """Map the store after every byte of it was checked.

        Raises:
            DataError: it is not finished, or a file is not what was written.
        """
        if not self.finished:
            raise DataError(f"{self.path}: these texts are not tokenized yet")
        read_facts(self.path)
        manifest = read_json(self.path / MANIFEST, _Files)
        for column in _COLUMNS:
            name = f"{column}.npy"
            if name not in manifest.files:
                raise DataError(f"{self.path / MANIFEST}: damaged, it names no {name}")
            problem = content_problem(self.path / name, manifest.files[name])
            if problem is not None:
                raise DataError(f"{problem}; {self._again}")
        values = self._map("values", "int32", None)
        offsets = self._map("offsets", "int64", None)
        check_offsets(offsets, len(values), str(self.path / "offsets.npy"), hint=self._again)
        kinds, users, items = (
            torch.from_numpy(self._map(column, "int64", len(offsets) - 1))
            for column in ("kinds", "users", "items")
        )
        texts = Ragged(torch.from_numpy(values), torch.from_numpy(offsets))
        return TokenizedCorpus(kinds, users, items, texts)

    def write(
        self,
        corpus: Corpus,
        encode: Encode,
        *,
        advance: Callable[[int], None] = lambda count: None,
        part_texts: int = PART_TEXTS,
    ) -> None:
        """Tokenize what is missing of a corpus; a finished store is left alone.

        Args:
            corpus: the texts.
            encode: the tokenizer.
            advance: told the texts of each part once they are done.
            part_texts: texts a part.

        Raises:
            CacheInUseError: another process writes this store.
        """
        with lock(self.path):
            if self.finished:
                return
            for file in leftovers(self.path):
                file.unlink()
            write_json(self.path / FACTS, {"format": FORMAT, "facts": self.facts})
            begins = range(0, len(corpus.texts), part_texts)
            for number, begin in enumerate(begins):
                page = corpus.texts[begin : begin + part_texts]
                self._write_part(number, page, encode)
                advance(len(page))
            self._join(corpus, len(begins))
            files = {f"{name}.npy": content_of(self.path / f"{name}.npy") for name in _COLUMNS}
            write_json(self.path / MANIFEST, _Files(files=files).model_dump())
            shutil.rmtree(self.path / _PARTS, ignore_errors=True)

    def _write_part(self, number: int, texts: Sequence[str], encode: Encode) -> None:
        ids, lengths, seal = self._part(number)
        if seal.is_file():
            with suppress(DataError):  # damaged: it is written again
                known = read_json(seal, _Files).files
                whole = all(
                    path.name in known and content_problem(path, known[path.name]) is None
                    for path in (ids, lengths)
                )
                if whole:
                    self._lengths(number, len(texts))
                    return
        encoded = encode(texts)
        write_array(ids, encoded.values.numpy().astype(np.int32))
        write_array(lengths, encoded.lengths.numpy())
        files = {path.name: content_of(path) for path in (ids, lengths)}
        write_json(seal, _Files(files=files).model_dump())

    def _join(self, corpus: Corpus, parts: int) -> None:
        """One file of all ids, without ever holding them all."""
        lengths = [self._lengths(number, None) for number in range(parts)]
        offsets = offsets_of(np.concatenate([np.zeros(0, dtype=np.int64), *lengths]))
        total = int(offsets[-1])
        with atomic_path(self.path / "values.npy") as temporary, temporary.open("wb") as file:
            header = {"descr": "<i4", "fortran_order": False, "shape": (total,)}
            np.lib.format.write_array_header_1_0(file, header)
            for number in range(parts):
                ids = read_array(self._part(number)[0], dtype="int32", shape=(None,))
                file.write(ids.astype("<i4", copy=False).data)
        write_array(self.path / "offsets.npy", offsets)
        for name in ("kinds", "users", "items"):
            write_array(self.path / f"{name}.npy", getattr(corpus, name).numpy())

    def _part(self, number: int) -> tuple[Path, Path, Path]:
        stem = self.path / _PARTS / f"{number:05d}"
        return stem.with_suffix(".npy"), stem.with_suffix(".lengths.npy"), stem.with_suffix(".json")

    def _lengths(self, number: int, count: int | None) -> np.ndarray:
        return read_array(self._part(number)[1], dtype="int64", shape=(count,))

    @property
    def _again(self) -> str:
        return f"delete {self.path} and start again"

    def _map(self, column: str, dtype: str, length: int | None) -> np.ndarray:
        path = self.path / f"{column}.npy"
        return read_array(path, dtype=dtype, shape=(length,), mapped=True, hint=self._again)


_VERSION = 1  # of what is stored; another is another store


def token_store(place: Workplace, settings: Cllm4RecModel, language: LanguageModel) -> TokenStore:
    """Where the texts of a run lie as token ids, whether they are there or not.

    Raises:
        ConfigError: the data do not have the kinds of text that are asked for.
    """
    data, tables = place.config.data, place.tables
    kinds = chosen_kinds(settings.content.kinds, data, tables)
    facts: dict[str, Any] = {
        "version": _VERSION,
        "data": data.name,
        "tables": tables.fingerprint,
        "kinds": kinds,
        "fields": [[field.name, field.column.split("@")[0]] for field in data.fields],
        "tokenizer": language.tokenizer_fingerprint,
        "library": f"tokenizers {version('tokenizers').split('.')[0]}",
        "leading_space": settings.content.main_leading_space,
    }
    return TokenStore(place.config.exp.cache.token_folder / language.name, facts)


def tokenized_corpus(
    place: Workplace,
    settings: Cllm4RecModel,
    tokenizer: SoftTokenizer,
    language: LanguageModel,
    say: Callable[[str], None],
) -> TokenizedCorpus:
    """The texts of a run as token ids; they are tokenized, after saying so, where they are not.

    Raises:
        ConfigError: the data do not have the kinds of text that are asked for.
        DataError: the store is damaged, or there is no text at all.
    """
    store = token_store(place, settings, language)
    if not store.finished:
        begin = time.monotonic()
        corpus = read_corpus(store.facts["kinds"], place.config.data, place.tables)
        if not corpus.texts:
            raise DataError(
                f"{place.tables.folder}: not one text of kind {', '.join(store.facts['kinds'])}; "
                "set model.content.enabled to false"
            )
        say(f"tokenizing {len(corpus.texts):,} texts for {language.name} into {store.path}")
        space = settings.content.main_leading_space
        store.write(corpus, lambda texts: tokenizer.encode_plain(texts, leading_space=space))
        say(f"tokenized in {time.monotonic() - begin:.1f} s")
    return store.open()
