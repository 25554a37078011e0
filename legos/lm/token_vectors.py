"""Pretrained token vectors: a language model's embedding table or a GloVe text file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from legos.errors import ConfigError, DataError
from legos.files import atomic_path
from legos.lm.glove import read_word_vectors
from legos.lm.source import LanguageModelSource
from legos.records import check_strings, parse_json

if TYPE_CHECKING:
    from legos.lm.load import LanguageModel

_VECTORS, _TOKENS = "vectors", "tokens"  # of a token table file


@dataclass(frozen=True)
class TokenVectors:
    """Tokens and their pretrained vectors.

    Attributes:
        tokens: V names of the rows.
        vectors: ``(V, E)`` float32.
        repeated: lines left out because their token had a vector already.
    """

    tokens: list[str]
    vectors: Tensor
    repeated: int = 0


@dataclass(frozen=True)
class AlignReport:
    """How much of a vocabulary has a pretrained vector.

    Attributes:
        found: entries with one.
        missing: entries that start at random instead.
    """

    found: int
    missing: int


def language_model_token_vectors(source: LanguageModelSource) -> TokenVectors:
    """The input embedding table of a language model; of a folder nothing else is read.

    Returns:
        tokens in the order of their ids, and their vectors.

    Raises:
        ConfigError: there is no such model, its files do not fill it, or it has no tokenizer.
    """
    from legos.lm.load import LanguageModel

    language_model = LanguageModel(source)
    vectors = language_model.token_table()
    return TokenVectors(_names(language_model, len(vectors)), vectors)


def _names(language_model: LanguageModel, size: int) -> list[str]:
    """Tokens in the order of their ids: of ``tokenizer.json``, else as transformers reads them."""
    source = language_model.source
    if source.tokenizer is None and not source.random and language_model.located.gguf is None:
        folder = language_model.located.folder
        if (folder / "tokenizer.json").is_file():
            return _tokens(folder, size)
    names = [f"<unused {index}>" for index in range(size)]
    for token, index in language_model.tokenizer.get_vocab().items():
        names[index] = token
    return names


def write_token_table(path: Path, table: TokenVectors, *, fingerprint: str | None = None) -> None:
    """Write tokens and vectors as ``.safetensors``, whole or not at all.

    ``fingerprint`` says what they were made from;
    ``legos.data.vector_files.file_fingerprint`` reads it.
    """
    from safetensors.torch import save

    metadata = {_TOKENS: json.dumps(table.tokens, ensure_ascii=False)}
    if fingerprint is not None:
        metadata["fingerprint"] = fingerprint
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({_VECTORS: table.vectors.contiguous()}, metadata=metadata))


def read_token_table(path: Path) -> TokenVectors:
    """What :func:`write_token_table` wrote.

    Raises:
        DataError: the file is missing, damaged, or something else.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such token table; `--exp config/exp/embed.yaml` writes one")
    try:
        with safe_open(path, "pt") as file:
            vectors = file.get_tensor(_VECTORS).float()
            listed = (file.metadata() or {}).get(_TOKENS)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged or no token table ({error})") from None
    if listed is None:
        raise DataError(f"{path}: no token table, its metadata have no {_TOKENS!r}")
    where = f"{path}: metadata {_TOKENS!r}"
    tokens = check_strings(parse_json(listed.encode("utf-8"), where), where)
    if vectors.dim() != 2 or not vectors.isfinite().all():
        raise DataError(f"{path}: its vectors are no table of finite numbers")
    if len(tokens) != len(vectors):
        raise DataError(f"{path}: {len(vectors)} vectors, but not as many tokens")
    return TokenVectors(tokens, vectors)


def _tokens(folder: Path, size: int) -> list[str]:
    path = folder / "tokenizer.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = described["model"]["vocab"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a tokenizer with a vocabulary ({error!r})") from None
    pairs = (
        vocabulary.items()
        if isinstance(vocabulary, dict)
        else ((entry[0], index) for index, entry in enumerate(vocabulary))
    )
    tokens = [f"<unused {index}>" for index in range(size)]
    added = ((entry["content"], entry["id"]) for entry in described.get("added_tokens", ()))
    for token, index in (*pairs, *added):
        if index < size:
            tokens[index] = token
    return tokens


def text_file_token_vectors(path: Path) -> TokenVectors:
    """Vectors of a text file in GloVe's format: a word and its numbers, separated by spaces.

    A word2vec header line (count and width) is checked against what follows; a word may hold
    spaces, as some of GloVe's 840B file do; of a word that stands twice the first vector counts,
    and ``repeated`` says how often that was so. Files may be gzipped (``.gz``).

    Raises:
        DataError: see :func:`legos.lm.glove.read_word_vectors`; the message names the line.
    """
    found = read_word_vectors(path)
    vectors = np.frombuffer(found.numbers, dtype=np.float32).reshape(len(found.words), found.width)
    return TokenVectors(list(found.words), torch.from_numpy(vectors), found.repeated)


def align_token_vectors(
    tokens: Sequence[str], vectors: Tensor, vocabulary: Sequence[str], seed: int
) -> tuple[Tensor, AlignReport]:
    """Put vectors into the order of a vocabulary.

    Entries without a vector are drawn from a normal distribution with the mean and deviation of
    the table, seeded.

    Args:
        tokens: V names of the rows of ``vectors``.
        vectors: ``(V, E)`` float32.
        vocabulary: V' entries, position = id.
        seed: of the random rows.

    Returns:
        ``(V', E)`` float32 and how many entries were found.
    """
    row = {token: index for index, token in reversed(list(enumerate(tokens)))}
    index = torch.tensor([row.get(entry, -1) for entry in vocabulary], dtype=torch.int64)
    found = index >= 0
    generator = torch.Generator().manual_seed(seed)
    aligned = torch.randn(len(vocabulary), vectors.shape[1], generator=generator)
    aligned = aligned * vectors.std() + vectors.mean()
    aligned[found] = vectors[index[found]]
    count = int(found.sum())
    return aligned, AlignReport(found=count, missing=len(vocabulary) - count)
