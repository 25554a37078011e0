"""One vector a text: the mean of a language model's last hidden states over the real tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from legos.content import content_of
from legos.data.ragged import from_rows
from legos.errors import ConfigError, DataError
from legos.files import sha256_of_text, write_array
from legos.lm.final_states import pooled_final_states
from legos.lm.settings import LanguageModelSource
from legos.progress import progress_bar
from legos.records import read_array
from legos.sharing import ALONE, Sharing

_VERSION = "mean-2"  # of the computation; part of the fingerprint


def text_vectors(
    texts: Sequence[str],
    folder: Path,
    *,
    cache: Path | None = None,
    max_length: int = 128,
    batch_tokens: int = 4_096,
    normalise: bool = False,
    sharing: Sharing = ALONE,
) -> np.ndarray:
    """Encode texts, or read what an earlier call encoded.

    Args:
        texts: N texts.
        folder: a Hugging Face encoder with a fast tokenizer; only local files are read.
        cache: folder of ``<fingerprint>.npy``; the fingerprint covers configuration, weights,
            tokenizer, texts and length, so that a change of any is another file.
        max_length: tokens a text keeps, special tokens included.
        batch_tokens: tokens encoded at once, padding included.
        normalise: scale every vector to length 1.
        sharing: with which other processes; the first one writes the cache.

    Returns:
        ``(N, E)`` float32; ``(0, 0)`` in all but the first process.

    Raises:
        ConfigError: the folder lacks weights or a tokenizer, or the model reads no texts of
            ``max_length`` tokens.
    """
    path = None if cache is None else cache / f"{_fingerprint(texts, folder, max_length)}.npy"
    vectors = _cached(path, len(texts)) if path is not None else None
    if sharing.first(lambda: vectors is None):
        vectors = _encode(texts, folder, max_length, batch_tokens, sharing)
        if path is not None and sharing.is_first:
            write_array(path, vectors)
    if vectors is None or not sharing.is_first:
        return np.zeros((0, 0), dtype=np.float32)
    return unit_rows(vectors) if normalise else vectors


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """``(N, E)`` rows of length 1; a row of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return scaled


def _cached(path: Path, count: int) -> np.ndarray | None:
    """What lies in the cache; a damaged file is as good as none."""
    try:
        return read_array(path, dtype="float32", shape=(count, None))
    except DataError:
        return None


def _fingerprint(texts: Sequence[str], folder: Path, max_length: int) -> str:
    files = [folder / "config.json", folder / "tokenizer.json", *folder.glob("*.safetensors")]
    missing = [file.name for file in files if not file.is_file()]
    if len(files) == 2:
        missing.append("*.safetensors")
    if missing:
        raise ConfigError(f"{folder}: no language model to encode texts: no {', '.join(missing)}")
    content = [content_of(file) for file in sorted(files)]
    content.append(sha256_of_text(json.dumps(list(texts))))
    return sha256_of_text(" ".join([_VERSION, *content, str(max_length)]))[:24]


def _encode(
    texts: Sequence[str], folder: Path, max_length: int, batch_tokens: int, sharing: Sharing
) -> np.ndarray:
    from tokenizers import Tokenizer

    from legos.lm.load import LanguageModel

    language = LanguageModel(LanguageModelSource.model_validate({"path": str(folder)}))
    if language.longest is not None and max_length > language.longest:
        raise ConfigError(
            f"max_length {max_length}: {folder} reads at most {language.longest} tokens a text"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = language.fit_to_table(Tokenizer.from_file(str(folder / "tokenizer.json")))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    encoded = [np.array(entry.ids, np.int64) for entry in tokenizer.encode_batch(list(texts))]
    tokens = from_rows(encoded, "int64").tensors()
    with progress_bar("encoding texts", tokens.values.numel()) as bar:
        found = pooled_final_states(
            language.load(),
            tokens,
            pooling="mean",
            batch_tokens=batch_tokens,
            advance=bar.advance,
            sharing=sharing,
        )
    if not found.numel():  # no text has a token
        return np.zeros((len(texts), language.output_width), dtype=np.float32)
    found[tokens.lengths == 0] = 0
    vectors: np.ndarray = found.numpy()
    return vectors
