"""The tokenizers of tables: the set's own words, or a Hugging Face tokenizer, and their files.

What cuts the texts of new items, too. Special tokens are left out: what a brick or a language model
needs around a text, it adds itself.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from legos.data.manifest import AGAIN, WORDS, tokenizer_file
from legos.data.ragged import Ragged, RaggedArray, from_lengths
from legos.data.spans import split_at_spaces
from legos.errors import DataError
from legos.files import sha256_of_file, sha256_of_text, write_json, write_text
from legos.progress import progress_bar
from legos.records import read_strings
from legos.scratch import PAGE, on_disk, pages

if TYPE_CHECKING:
    from tokenizers import Tokenizer


UNKNOWN = "<unknown>"
MOST_UNKNOWN = 5.0
"""Percent of the tokens of a field from which on a tokenizer does not know its language."""
TEXTS_A_BATCH = 4096  # keeps the Encoding objects of one batch near 20 MB


class TextTokenizer(ABC):
    """A tokenizer of the tables: a vocabulary and a way to cut texts.

    Attributes:
        source: ``TokenizerSpec.source``.
        vocabulary: tokens, position = id.
        sha256: hash of what decides the ids, None when it is made from the texts themselves.
    """

    source: str
    vocabulary: list[str]
    sha256: str | None

    def encode(self, texts: Sequence[str], description: str) -> RaggedArray:
        """Token ids (int32) of every text; those of more than a page of texts lie on disk."""
        if len(texts) <= PAGE:
            return self._of_page(texts)
        lengths = []

        def cut() -> Iterator[np.ndarray]:
            with progress_bar(f"tokenizing {description}", len(texts)) as bar:
                for page in pages(texts):
                    tokens = self._of_page(page)
                    lengths.append(tokens.lengths)
                    yield tokens.values
                    bar.advance(len(page))

        values = on_disk(cut(), np.int32)
        return from_lengths(values, np.concatenate(lengths))

    def _of_page(self, texts: Sequence[str]) -> RaggedArray:
        """Equal texts are cut once."""
        codes, distinct = pd.factorize(np.asarray(list(texts), dtype=object))
        return self._encode(distinct.tolist()).select(codes)

    @abstractmethod
    def _encode(self, texts: list[str]) -> RaggedArray: ...

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what ``load_tokenizer`` needs to cut new texts offline."""


class WordTokenizer(TextTokenizer):
    """Lower case, cut by ``\\w+|[^\\w\\s]``; id 0 is ``<unknown>``."""

    PATTERN = re.compile(r"\w+|[^\w\s]|\n")

    def __init__(self, vocabulary: list[str]) -> None:
        self.source = WORDS
        self.vocabulary = vocabulary
        self.sha256 = None

    @classmethod
    def of_texts(cls, fields: Iterable[Sequence[str]]) -> WordTokenizer:
        """The words of all texts, in order of first appearance."""
        found = {UNKNOWN: None}
        for texts in fields:
            for page in pages(texts):
                found.update(dict.fromkeys(pd.unique(_cut(list(page))).tolist()))
        found.pop("\n", None)
        return cls(list(found))

    def _encode(self, texts: list[str]) -> RaggedArray:
        if not texts:
            return Ragged(np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64))
        words = _cut(texts)
        text_ends = words == "\n"
        counts = np.bincount(np.cumsum(text_ends)[~text_ends], minlength=len(texts))
        ids = self._known.get_indexer(pd.Index(words[~text_ends], dtype=object))
        return from_lengths(np.maximum(ids, 0).astype(np.int32), counts)

    @cached_property
    def _known(self) -> pd.Index:
        return pd.Index(self.vocabulary)

    def save(self, folder: Path) -> None:
        write_json(folder / "vocabulary.json", self.vocabulary)


def _cut(texts: list[str]) -> np.ndarray:
    """All words of all texts as one flat object array, a line feed between two texts."""
    blob = "\n".join(text.replace("\n", " ") for text in texts).lower()
    return np.array(WordTokenizer.PATTERN.findall(blob), dtype=object)


class SubwordTokenizer(TextTokenizer):
    """A Hugging Face fast tokenizer without its special tokens, truncation and padding.

    BERT's rules never join anything over a space, so there the distinct words are cut instead of
    the texts: a twentieth of the work.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.source = source
        self.tokenizer = tokenizer
        known = tokenizer.get_vocab(with_added_tokens=True)
        self.vocabulary = [f"<unused {i}>" for i in range(max(known.values()) + 1)]
        for token, position in known.items():
            self.vocabulary[position] = token
        self.sha256 = sha256_of_text(tokenizer.to_str())
        self.spaces_separate = _spaces_separate(tokenizer)

    def _encode(self, texts: list[str]) -> RaggedArray:
        if not self.spaces_separate:
            return self._encode_whole(texts)
        one_line = [text.replace("\n", " ") for text in texts]
        spaced = split_at_spaces(np.array(one_line, dtype=object))
        codes, words = spaced.factorize()
        tokens = self._encode_whole(words).select(codes)  # (words of all texts,) lists
        return tokens.grouped(spaced.offsets)

    def _encode_whole(self, texts: list[str]) -> RaggedArray:
        parts: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
        lengths: list[int] = []
        for batch in pages(texts, TEXTS_A_BATCH):
            encodings = self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            lengths.extend(map(len, ids))
            parts.append(np.fromiter(chain.from_iterable(ids), dtype=np.int32))
        return from_lengths(np.concatenate(parts), np.array(lengths, dtype=np.int64))

    def save(self, folder: Path) -> None:
        write_text(folder / "tokenizer.json", self.tokenizer.to_str())


def _spaces_separate(tokenizer: Tokenizer) -> bool:
    rules = json.loads(tokenizer.to_str())
    types = [(rules[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
    added = [token["content"] for token in rules["added_tokens"]]
    return types == ["BertNormalizer", "BertPreTokenizer"] and not any(" " in t for t in added)


def load_tokenizer(tables: Path, manifest: Mapping[str, Any], name: str) -> TextTokenizer:
    """A tokenizer of finished tables, its file compared with the hash in their manifest.

    Args:
        tables: their folder.
        manifest: as :func:`legos.data.manifest.read_manifest` gives it.
        name: of the tokenizer.

    Raises:
        DataError: its file is missing or has changed.
    """
    source = manifest["tokenizers"][name]["source"]
    file = tokenizer_file(name, source)
    path = tables / file
    if not path.is_file():
        raise DataError(f"{path}: the tokenizer of these tables is missing; {AGAIN}")
    if sha256_of_file(path) != manifest["files"][file]["sha256"]:
        raise DataError(f"{path}: differs from the file that these tables were made with; {AGAIN}")
    return read_tokenizer(path, source)


def read_tokenizer(path: Path, source: str) -> TextTokenizer:
    """The tokenizer in a file that ``save`` wrote.

    Raises:
        DataError: the file holds none.
    """
    if source == WORDS:
        return WordTokenizer(read_strings(path, hint=AGAIN))
    return SubwordTokenizer(source, tokenizer_in_file(path))


def load_tokenizers(tables: Path, manifest: Mapping[str, Any]) -> dict[str, TextTokenizer]:
    """Every tokenizer of finished tables, by name; see :func:`load_tokenizer`."""
    return {name: load_tokenizer(tables, manifest, name) for name in manifest["tokenizers"]}


def tokenizer_in_file(path: Path) -> Tokenizer:
    """A Hugging Face tokenizer; DataError where the file holds none."""
    from tokenizers import Tokenizer  # not needed by `words`

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise DataError(f"{path}: not a tokenizer file ({error})") from None
