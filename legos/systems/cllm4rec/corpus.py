"""Input of CLLM4Rec from tables: training items of users, and texts, tokenized once.

Nothing of a held-out pair is read: items are those of training impressions and of the histories
before them, reviews those of training pairs (``legos.data.reviews`` refuses others).

<token folder>/<language model>/<fingerprint>/
    facts.json                            all that the fingerprint covers
    values.npy, offsets.npy               (P,) int32 token ids, (R + 1,) int64
    kinds.npy, users.npy, items.npy       (R,) int64 what each text is of
    manifest.json                         sizes and hashes, written last
    parts/00000.npy, 00000.json           while it is being made: a killed writer goes on
    lock                                  held by the process that writes
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeVar

from legos.config.data_schema import DataConfig
from legos.data.batch import clicks_of
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, offsets_of
from legos.data.reviews import TABLE as REVIEWS
from legos.data.reviews import Reviews
from legos.data.sampling import distinct_rows
from legos.data.tables import Tables
from legos.data.texts import join_texts
from legos.data.tokenizers import UNKNOWN
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
from legos.records import Count, Record, check_offsets, read_array
from legos.systems.cllm4rec.batches import CONTENT_KINDS, content_kind
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.tokenizer import SoftTokenizer
from legos.workplace.workplace import Workplace

_OF_PAIRS = ("review", "explanation")
_OF_USERS = ("biography",)
_OF_FIELDS = ("title", "brand", "description", "categories")
_ALL_FIELDS = "content"
_VERSION = 1  # of what is stored; another is another store
_PART_TEXTS = 20_000  # what a kill may cost
_COLUMNS = ("values", "offsets", "kinds", "users", "items")

Encode = Callable[[Sequence[str]], Ragged]
"""Texts to int32 token ids, a row a text."""
Texts = TypeVar("Texts", default=list[str])


@dataclass(frozen=True)
class Corpus(Generic[Texts]):
    """Texts of one kind or of several, in order.

    Attributes:
        kinds: ``(R,)`` int64 rows of ``batches.CONTENT_KINDS``.
        users, items: ``(R,)`` int64; -1 where a kind names none.
        texts: R texts, none of them empty, or R rows of int32 token ids.
    """

    kinds: Tensor
    users: Tensor
    items: Tensor
    texts: Texts


TokenizedCorpus: TypeAlias = Corpus[Ragged]


def train_items(tables: Tables, train: Interactions) -> Ragged:
    """The distinct training items of every user, ascending: I rows of int64.

    They are the clicks of the training split and what stands in its histories, uncut.
    """
    clicks = clicks_of(train)
    states = train.history_rows.unique()
    read = tables.lists("histories", "items").select(states.cpu())
    owners = train.history_users[states].cpu()
    users = torch.cat([clicks.spread(train.users).cpu(), read.spread(owners)])
    items = torch.cat([clicks.values.cpu(), read.values.long()])
    return distinct_rows(users, items, rows=tables.num_users, width=tables.num_items)


def known_kinds(data: DataConfig, tables: Tables) -> list[str]:
    """The kinds of text that these data have, in the order of ``CONTENT_KINDS``."""
    stored = tables.manifest.get("table_fields", {})
    fields = {field.name for field in data.fields}
    known = {_ALL_FIELDS} if fields else set()
    for kinds, there in (
        (_OF_PAIRS, stored.get(REVIEWS, {})),
        (_OF_USERS, stored.get("users", {})),
        (_OF_FIELDS, fields),
    ):
        known |= {kind for kind in kinds if kind in there}
    return [kind for kind in CONTENT_KINDS if kind in known]


def chosen_kinds(asked: Sequence[str], data: DataConfig, tables: Tables) -> list[str]:
    """The kinds in ``model.content.kinds``; if it is empty, all but `content`.

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
    kinds = [kind for kind in known if kind in asked or (not asked and kind != _ALL_FIELDS)]
    if not kinds:
        joined = "content.kinds to [content] for all its fields in one, or " if data.fields else ""
        raise ConfigError(
            f"model.content: {data.name} has neither reviews nor a field called "
            f"{', '.join(_OF_FIELDS)}; set {joined}content.enabled to false"
        )
    return kinds


def read_corpus(kinds: Sequence[str], data: DataConfig, tables: Tables) -> Corpus:
    """Read the texts of some kinds, without empty ones."""
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    texts: list[str] = []
    for kind in kinds:
        users, items, every = _texts_of(kind, data, tables)
        kept = [row for row, text in enumerate(every) if text.strip()]
        numbers = torch.full((len(kept),), content_kind(kind))
        columns.append((numbers, users[kept], items[kept]))
        texts += [every[row] for row in kept]
    numbers, users, items = (torch.cat(column) for column in zip(*columns, strict=True))
    return Corpus(numbers, users, items, texts)


def _texts_of(kind: str, data: DataConfig, tables: Tables) -> tuple[Tensor, Tensor, list[str]]:
    """Users, items and texts of one kind."""
    if kind in _OF_PAIRS:
        reviews = Reviews.from_tables(tables)
        return reviews.users, reviews.items, reviews.texts[kind]
    if kind in _OF_USERS:
        users = torch.arange(tables.num_users)
        return users, torch.full_like(users, -1), tables.texts(kind, table="users")
    chosen = [field for field in data.fields if kind in (_ALL_FIELDS, field.name)]
    columns = [_item_texts(tables, field.column.split("@")[0]) for field in chosen]
    items = tables.offered.nonzero()[:, 0]  # not what a model wrote
    joined = join_texts(columns)
    return torch.full_like(items, -1), items, [joined[item] for item in items.tolist()]


def _item_texts(tables: Tables, column: str) -> list[str]:
    if tables.manifest["fields"].get(column, {}).get("kind") in ("text", "number"):
        return tables.texts(column)
    names = tables.vocabulary(tables.column("items", column)["vocabulary"])
    values = tables.scalar("items", column).tolist()
    return ["" if names[value] == UNKNOWN else names[value] for value in values]


class _Files(Record):
    """Sizes and hashes by file name."""

    files: dict[str, Content]


class _Part(Content):
    """A part of the store with a number of texts."""

    texts: Count


class TokenStore:
    """The store of one corpus and one tokenizer.

    Args:
        facts: JSON-able, everything that decides the ids; other facts are another store.

    Attributes:
        path: where it lies, ``folder/<fingerprint>``.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.facts: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
        self.path = folder / fingerprint(self.facts)
        self._again = f"delete {self.path} and start again"

    @property
    def finished(self) -> bool:
        """Whether the store is complete."""
        return (self.path / MANIFEST).is_file()

    def open(self) -> TokenizedCorpus:
        """Check every byte of the store, then map it.

        Raises:
            DataError: it is not finished, or a file is not what was written.
        """
        if not self.finished:
            raise DataError(f"{self.path}: these texts are not tokenized yet")
        read_facts(self.path)
        manifest = read_json(self.path / MANIFEST, _Files)
        for name in (f"{column}.npy" for column in _COLUMNS):
            if name not in manifest.files:
                raise DataError(f"{self.path / MANIFEST}: damaged, it names no {name}")
            problem = content_problem(self.path / name, manifest.files[name])
            if problem is not None:
                raise DataError(f"{problem}; {self._again}")
        values = self._map("values", "int32", None)
        offsets = self._map("offsets", "int64", None)
        check_offsets(
            offsets.numpy(), len(values), str(self.path / "offsets.npy"), hint=self._again
        )
        kinds, users, items = (
            self._map(column, "int64", len(offsets) - 1) for column in _COLUMNS[2:]
        )
        return Corpus(kinds, users, items, Ragged(values, offsets))

    def _map(self, column: str, dtype: str, length: int | None) -> Tensor:
        path = self.path / f"{column}.npy"
        array = read_array(path, dtype=dtype, shape=(length,), mapped=True, hint=self._again)
        return torch.from_numpy(array)

    def write(
        self,
        corpus: Corpus,
        encode: Encode,
        *,
        advance: Callable[[int], None] = lambda count: None,
        part_texts: int = _PART_TEXTS,
    ) -> None:
        """Tokenize the missing texts of a corpus; a finished store is not changed.

        Args:
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
            parts = []
            for number, begin in enumerate(range(0, len(corpus.texts), part_texts)):
                page = corpus.texts[begin : begin + part_texts]
                parts.append(self._part(number, page, encode))
                advance(len(page))
            self._join(corpus, parts)
            files = {f"{name}.npy": content_of(self.path / f"{name}.npy") for name in _COLUMNS}
            write_json(self.path / MANIFEST, _Files(files=files).model_dump())
            shutil.rmtree(self.path / "parts", ignore_errors=True)

    def _part(
        self, number: int, texts: Sequence[str], encode: Encode
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lengths and ids of some texts, mapped from their file, which is written if missing."""
        path = self.path / "parts" / f"{number:05d}.npy"
        seal, whole = path.with_suffix(".json"), False
        if seal.is_file():
            with suppress(DataError):  # damaged: it is written again
                known = read_json(seal, _Part)
                whole = known.texts == len(texts) and content_problem(path, known) is None
        if not whole:
            encoded = encode(texts)
            write_array(path, torch.cat([encoded.lengths, encoded.values]).numpy().astype(np.int32))
            content = content_of(path)
            write_json(seal, _Part(**content.model_dump(), texts=len(texts)).model_dump())
        part = read_array(path, dtype="int32", shape=(None,), mapped=True)
        return part[: len(texts)], part[len(texts) :]

    def _join(self, corpus: Corpus, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Write all ids to one file, without holding all of them in memory."""
        lengths = np.concatenate([np.zeros(0, np.int64), *(lengths for lengths, _ in parts)])
        offsets = offsets_of(lengths)
        with atomic_path(self.path / "values.npy") as temporary, temporary.open("wb") as file:
            header = {"descr": "<i4", "fortran_order": False, "shape": (int(offsets[-1]),)}
            np.lib.format.write_array_header_1_0(file, header)
            for _, ids in parts:
                file.write(ids.astype("<i4", copy=False).data)
        write_array(self.path / "offsets.npy", offsets)
        for name in _COLUMNS[2:]:
            write_array(self.path / f"{name}.npy", getattr(corpus, name).numpy())


def token_store(
    workplace: Workplace, settings: Cllm4RecModel, language: LanguageModel
) -> TokenStore:
    """The store of a run's texts as token ids, whether it exists or not."""
    data, tables = workplace.config.data, workplace.tables
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
    return TokenStore(workplace.config.exp.cache.token_folder / language.name, facts)


def tokenized_corpus(
    workplace: Workplace,
    settings: Cllm4RecModel,
    tokenizer: SoftTokenizer,
    language: LanguageModel,
    say: Callable[[str], None],
) -> TokenizedCorpus:
    """The texts of a run as token ids; tokenizes missing ones and reports it by ``say``.

    Raises:
        ConfigError: the data do not have the kinds of text that are asked for.
        DataError: the store is damaged, or there is no text at all.
    """
    store = token_store(workplace, settings, language)
    if not store.finished:
        begin = time.monotonic()
        corpus = read_corpus(store.facts["kinds"], workplace.config.data, workplace.tables)
        if not corpus.texts:
            raise DataError(
                f"{workplace.tables.folder}: not one text of kind "
                f"{', '.join(store.facts['kinds'])}; set model.content.enabled to false"
            )
        say(f"tokenizing {len(corpus.texts):,} texts for {language.name} into {store.path}")
        space = settings.content.main_leading_space
        store.write(corpus, lambda texts: tokenizer.encode_plain(texts, leading_space=space))
        say(f"tokenized in {time.monotonic() - begin:.1f} s")
    return store.open()
