"""Texts become vectors by a language model: the mean of its final states, or as it is shipped.

A folder of sentence-transformers is read as that library reads it (:mod:`legos.lm.sentence_files`),
in float32 whatever its weights are stored as.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from legos.content import content_of
from legos.data.ragged import Ragged, from_rows, offsets_of
from legos.data.vector_files import Encoding
from legos.errors import ConfigError, DataError
from legos.files import sha256_of_text, write_array
from legos.lm.load import LanguageModel
from legos.lm.locate import lacks, language_model_content
from legos.lm.sentence import SentenceHead
from legos.lm.sentence_files import Pooling, SentenceFiles, Task, sentence_files
from legos.lm.settings import LanguageModelSource
from legos.lm.states import of_tokens, padded_batch, similar_items, unit_rows
from legos.lm.text_model import call_options, padding_id
from legos.progress import progress_bar
from legos.records import read_array
from legos.sharing import ALONE, Sharing

BATCH_TOKENS = 4_096
"""Tokens encoded at once, padding included."""

_VERSION = "packed-3"  # part of a cache's fingerprint
_PLAIN_LENGTH = 128  # tokens of a text where no files of a sentence encoder say


def as_shipped(
    folder: Path,
    *,
    task: Task = "document",
    prompt_name: str | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    most: int | None = None,
    dimensions: int | None = None,
    bidirectional: bool = False,
) -> Encoding:
    """How the files of a folder say that texts become vectors.

    A folder without ``modules.json``: the mean of final states, of 128 tokens.

    Args:
        task: which of its prompts stands before a text, and how long a text may be.
        prompt_name: another of its prompts.
        prompt: other words, or none; they win.
        max_length: tokens that a text keeps.
        most: tokens that it keeps where the files allow more.
        dimensions: see :class:`~legos.data.vector_files.Encoding`.
        bidirectional: see :class:`~legos.lm.load.LanguageModel`.

    Raises:
        ConfigError: of :func:`sentence_files`; or there is no prompt of this name.
    """
    files = sentence_files(folder)
    if files is None:
        if prompt_name is not None:
            raise ConfigError(f"{folder}: has no modules.json, so no prompt {prompt_name!r} either")
        max_length = max_length or _PLAIN_LENGTH
    else:
        prompt = files.prompt(task, prompt_name) if prompt is None else prompt
        max_length = max_length or files.task_lengths.get(task)
        if max_length is None and most is not None:
            max_length = min(most, files.max_length or most)
    return Encoding(
        head="shipped",
        max_length=max_length,
        prompt=prompt or "",
        dimensions=dimensions,
        bidirectional=bidirectional,
    )


@dataclass(frozen=True)
class ReadTexts:
    """Token ids of N texts, and what was cut off them.

    Attributes:
        tokens: int64.
        cut: tokens that each text lost, ``(N,)`` int64.
    """

    tokens: Ragged
    cut: Tensor


class TextEncoder:
    """A language model that makes vectors.

    Args:
        folder: a Hugging Face model with a fast tokenizer, or one of sentence-transformers.
        how: texts become vectors.

    Raises:
        ConfigError: the folder is no such model.
    """

    def __init__(self, folder: Path, how: Encoding) -> None:
        mean = SentenceFiles(backbone=folder, pooling=Pooling(("mean",), include_prompt=True))
        self.files = (sentence_files(folder) if how.head == "shipped" else None) or mean
        self.folder, self.how = folder, how
        source = LanguageModelSource.model_validate({"path": str(self.files.backbone)})
        self.language = LanguageModel(source, bidirectional=how.bidirectional)

    @property
    def width(self) -> int:
        """D of a vector.

        Raises:
            ConfigError: more dimensions were asked for.
        """
        whole, asked = self._head.width, self.how.dimensions
        if asked is not None and asked > whole:
            raise ConfigError(f"dimensions {asked}: {self.folder} makes vectors of {whole} numbers")
        return min(whole, asked or self.files.dimensions or whole)

    @property
    def content(self) -> str:
        """SHA-256 over weights, tokenizer and all that its files say; not over ``how``.

        Raises:
            ConfigError: files are missing.
        """
        missing = lacks(self.files.backbone)
        if missing is not None:
            raise ConfigError(f"{self.folder}: no language model to encode texts: no {missing}")
        content = [language_model_content(self.language.source)]
        content += [content_of(file) for file in self.files.files]
        return sha256_of_text(" ".join([_VERSION, *content]))

    @cached_property
    def _head(self) -> SentenceHead:
        return SentenceHead(self.files, self.language.output_width)

    @cached_property
    def _whole_tokenizer(self) -> Any:
        return self.language.transformers_tokenizer()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers.normalizers import Lowercase
        from tokenizers.normalizers import Sequence as Normalizers

        fast = self.language.fast(self._whole_tokenizer)
        if self.files.lower_case:
            own = fast.normalizer
            fast.normalizer = Normalizers([Lowercase(), *([own] if own is not None else [])])
        return fast

    @cached_property
    def longest(self) -> int | None:
        """Tokens that a text keeps, special tokens and prompt included; None: all.

        Raises:
            ConfigError: more were asked for than the model can read.
        """
        limit = self.language.longest
        asked = self.how.max_length
        if asked is not None and limit is not None and asked > limit:
            raise ConfigError(
                f"max_length {asked}: {self.folder} reads at most {limit} tokens a text"
            )
        own = self.files.max_length or self._whole_tokenizer.model_max_length
        known = [each for each in (asked or own, limit) if each is not None]
        shortest = min(known)
        return None if shortest > torch.iinfo(torch.int32).max else int(shortest)

    @cached_property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt that pooling leaves out; 0: it counts as any other word."""
        if self.files.pooling.include_prompt or not self.how.prompt:
            return 0
        self._tokenizer.no_truncation()
        ids = self._tokenizer.encode(self.how.prompt).ids
        ends = bool(ids) and ids[-1] in self._whole_tokenizer.all_special_ids
        return len(ids) - ends  # the token that ends a text stands behind its words

    def read(self, texts: Sequence[str]) -> ReadTexts:
        """Tokenize texts behind the prompt; an empty one has no token of its own."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        whole = [self.how.prompt + text for text in texts]
        tokenizer = self._tokenizer
        tokenizer.no_truncation()
        ids = [entry.ids for entry in tokenizer.encode_batch_fast(whole)] if whole else []
        before = torch.tensor([len(each) for each in ids], dtype=torch.int64)
        if self.longest is not None:
            long = (before > self.longest).nonzero()[:, 0].tolist()
            tokenizer.enable_truncation(
                self.longest, direction=self._whole_tokenizer.truncation_side
            )
            cut = tokenizer.encode_batch_fast([whole[row] for row in long]) if long else []
            for row, entry in zip(long, cut, strict=True):
                ids[row] = entry.ids
        tokens = from_rows([np.array(each, np.int64) for each in ids], "int64").tensors()
        return ReadTexts(tokens, before - tokens.lengths)

    def pages(self, tokens: Ragged, batch_tokens: int = BATCH_TOKENS) -> list[Tensor]:
        """Numbers ``(n,)`` of texts that are encoded together, the longest first."""
        return similar_items(tokens, batch_tokens=batch_tokens)

    def encode(
        self, tokens: Ragged, pages: Sequence[Tensor], sharing: Sharing = ALONE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each page with its vectors ``(n, D)`` float32, in every process."""
        if pages:
            yield from sharing.in_turns(pages, lambda items: self._page(tokens, items))

    @cached_property
    def _model(self) -> Any:
        return self.language.load()

    @torch.no_grad()
    def _page(self, tokens: Ragged, items: Tensor) -> Tensor:
        model = self._model
        padded, mask = padded_batch(tokens, items, padding=padding_id(model))
        output = model(input_ids=padded, attention_mask=mask.long(), **call_options(model))
        states = of_tokens(output.last_hidden_state, mask)[mask].float()  # (P, E)
        vectors: Tensor = self._head(states, offsets_of(tokens.lengths[items]), self.prompt_tokens)
        asked = self.how.dimensions
        if asked is None:
            return vectors[:, : self.files.dimensions]
        kept = vectors[:, :asked]
        return functional.normalize(kept, dim=-1) if self.files.is_normalised else kept


def text_vectors(
    texts: Sequence[str],
    folder: Path,
    how: Encoding | None = None,
    *,
    cache: Path | None = None,
    batch_tokens: int = BATCH_TOKENS,
    normalise: bool = False,
    sharing: Sharing = ALONE,
) -> np.ndarray:
    """Encode texts, or read what an earlier call encoded.

    Args:
        texts: N texts.
        folder: see :class:`TextEncoder`; only local files are read.
        how: texts become vectors; None: as the folder says, at most 128 tokens.
        cache: folder of ``<fingerprint>.npy``; the fingerprint covers configuration, weights,
            tokenizer, texts and ``how``, so that a change of any is another file.
        batch_tokens: tokens encoded at once, padding included.
        normalise: scale every vector to length 1.
        sharing: with which other processes; the first one writes the cache.

    Returns:
        ``(N, D)`` float32; zeros for a text without tokens; ``(0, 0)`` in all but the first
        process.

    Raises:
        ConfigError: the folder lacks weights or a tokenizer, or the model reads no texts of
            ``max_length`` tokens.
    """
    how = as_shipped(folder, most=_PLAIN_LENGTH) if how is None else how
    encoder = TextEncoder(folder, how)
    path, vectors = None, None
    if cache is not None:
        facts = [encoder.content, how.model_dump_json(), json.dumps(list(texts))]
        path = cache / f"{sha256_of_text(' '.join(facts))[:24]}.npy"
        with suppress(DataError):  # a damaged file is as good as none
            vectors = read_array(path, dtype="float32", shape=(len(texts), None))
    if sharing.first(lambda: vectors is None):
        vectors = _encode(encoder, texts, batch_tokens, sharing)
        if path is not None and sharing.is_first:
            write_array(path, vectors)
    if vectors is None or not sharing.is_first:
        return np.zeros((0, 0), dtype=np.float32)
    return unit_rows(vectors) if normalise else vectors


def _encode(
    encoder: TextEncoder, texts: Sequence[str], batch_tokens: int, sharing: Sharing
) -> np.ndarray:
    tokens = encoder.read(texts).tokens
    vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
    with progress_bar("encoding texts", tokens.values.numel()) as bar:
        pages = encoder.pages(tokens, batch_tokens)
        for items, found in encoder.encode(tokens, pages, sharing):
            vectors[items.numpy()] = found.numpy()
            bar.advance(int(tokens.lengths[items].sum()))
    return vectors
