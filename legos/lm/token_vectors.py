"""Pretrained token vectors: a language model's embedding table or a text file.

GloVe, fastText and word2vec write a word and its numbers a line. Words may hold spaces (some of
GloVe's 840B do), so how many numbers a line has is not plain from one line. It comes from the
header line of word2vec, else from the first line, and every other line has to agree. What could be
read in two ways is refused.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from legos.errors import ConfigError, DataError
from legos.files import BoundedGzip, atomic_path
from legos.lm.settings import LanguageModelSource
from legos.records import check_strings, parse_json

if TYPE_CHECKING:
    from legos.lm.load import LanguageModel


_VECTORS, _TOKENS = "vectors", "tokens"  # of a token table file
_FORMATS = {  # how files of another kind begin
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x1f\x8b": "gzipped; give it a name that ends with .gz",
    b"BZ": "a bzip2 archive; unpack it first",
    b"\xff\xfe": "UTF-16; convert it to UTF-8 first",
    b"\xfe\xff": "UTF-16; convert it to UTF-8 first",
}
_SHOWN = 40  # characters of a line that an error shows


@dataclass(frozen=True)
class TokenVectors:
    """V tokens and their pretrained vectors, ``(V, E)`` float32."""

    tokens: list[str]
    vectors: Tensor
    repeated: int = 0  # lines left out because their token had a vector already


def language_model_token_vectors(source: LanguageModelSource) -> TokenVectors:
    """The input embedding table of a language model, in the order of its ids.

    Of a folder no other weights are read.

    Raises:
        ConfigError: there is no such model, its files do not fill it, or it has no tokenizer.
    """
    from legos.lm.load import LanguageModel

    language_model = LanguageModel(source)
    vectors = language_model.token_table()
    names = [f"<unused {index}>" for index in range(len(vectors))]
    for token, index in _vocabulary(language_model).items():
        if index < len(names):
            names[index] = token
    return TokenVectors(names, vectors)


def _vocabulary(language_model: LanguageModel) -> dict[str, int]:
    """Ids of tokens: of ``tokenizer.json``, which may have more than the table, or transformers."""
    from tokenizers import Tokenizer

    source = language_model.source
    if source.tokenizer is None and not source.random and language_model.located.gguf is None:
        path = language_model.located.folder / "tokenizer.json"
        if path.is_file():
            try:
                found: dict[str, int] = Tokenizer.from_file(str(path)).get_vocab()
            except Exception as error:  # tokenizers raises nothing narrower
                raise ConfigError(
                    f"{path}: not a tokenizer with a vocabulary ({error!r})"
                ) from None
            return found
    vocabulary: dict[str, int] = language_model.tokenizer.get_vocab()
    return vocabulary


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


def align_token_vectors(
    tokens: Sequence[str], vectors: Tensor, vocabulary: Sequence[str], seed: int
) -> tuple[Tensor, int]:
    """Put vectors ``(V, E)`` of tokens into the order of a vocabulary of V' entries.

    Entries without a vector are drawn from a normal distribution with the mean and deviation of
    the table, seeded.

    Returns:
        ``(V', E)`` float32, and how many entries have a vector.
    """
    row = {token: index for index, token in reversed(list(enumerate(tokens)))}
    index = torch.tensor([row.get(entry, -1) for entry in vocabulary], dtype=torch.int64)
    found = index >= 0
    generator = torch.Generator().manual_seed(seed)
    aligned = torch.randn(len(vocabulary), vectors.shape[1], generator=generator)
    aligned = aligned * vectors.std() + vectors.mean()
    aligned[found] = vectors[index[found]]
    return aligned, int(found.sum())


def text_file_token_vectors(path: Path) -> TokenVectors:
    """Vectors of a text file in GloVe's format, gzipped if its name ends with ``.gz``.

    Of a word that stands twice the first vector counts.

    Raises:
        DataError: the file is missing, empty, not UTF-8, of another format, has fewer or more
            lines than its header says, or a line whose columns do not fit or cannot be told apart;
            the message names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of word vectors")
    words: dict[str, None] = {}
    numbers = array("f")  # of all words, one after the other
    width = repeated = 0
    stated: int | None = None  # lines, by the header
    unsure: str | None = None  # a word with spaces that the width was taken from
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        parts = line.split(" ")
        if number == 1 and len(parts) == 2 and all(map(_is_count, parts)):
            stated, width = int(parts[0]), int(parts[1])
            continue
        if not width:
            width = _width(parts, place)
            unsure = " ".join(parts[:-width]) if len(parts) > width + 1 else None
        elif len(parts) == width + 1:
            unsure = None
        word, own = _word_and_numbers(line, parts, width, place, stated is not None)
        if word in words:
            repeated += 1
            continue
        words[word] = None
        numbers.extend(own)
    lines = len(words) + repeated
    if stated is not None and stated not in (lines, len(words)):
        raise DataError(
            f"{path}:1: the header says {stated:,} words of {width} numbers, {lines:,} lines "
            "follow; is the file whole? remove the header if it is another file's"
        )
    if not lines:
        raise DataError(f"{path}: empty, expected a word and its numbers on every line")
    if unsure is not None:
        raise DataError(
            f"{path}:1: a word with spaces ({unsure!r}) and {width} numbers, or a shorter "
            "word and more? no other line tells; put a line with a plain word first"
        )
    vectors = np.frombuffer(numbers, dtype=np.float32).reshape(len(words), width)
    return TokenVectors(list(words), torch.from_numpy(vectors), repeated)


def _width(parts: list[str], place: str) -> int:
    """Numbers of the first line: all at its end, but for one that must be the word."""
    count = sum(1 for _ in takewhile(_looks_like_a_number, reversed(parts[1:])))
    if count:
        return count
    if any("\t" in part for part in parts):
        found = (
            f"{_shown(parts[0])}: columns are separated by TABs; expected a word and its numbers"
        )
    else:
        found = f"0 numbers after {_shown(' '.join(parts))}; expected a word and its numbers"
    raise DataError(f"{place}: {found}, separated by single spaces")


def _word_and_numbers(
    line: str, parts: list[str], width: int, place: str, by_header: bool
) -> tuple[str, array[float]]:
    surplus = parts[1:-width]
    if len(parts) <= width or any(map(_looks_like_a_number, surplus)):
        wanted = f"{width} (by the header in line 1)" if by_header else f"{width}, as in line 1"
        reason = (
            f"; a word with spaces ({' '.join(parts[:-width])!r}) or a number too many?"
            if len(parts) > width
            else ""
        )
        raise DataError(
            f"{place}: {len(parts) - 1} numbers after {_shown(parts[0])}, expected {wanted}{reason}"
        )
    word = " ".join(parts[:-width])
    if not word or "" in parts[:-width]:
        raise DataError(f"{place}: no word, or two spaces in a row, before {_shown(parts[-width])}")
    rest = line[len(word) + 1 :]
    if "\t" in word or not (rest.isascii() and rest.isprintable()) or "_" in rest:
        raise DataError(
            f"{place}: {_shown(line)} has TABs or other signs between or in its numbers; expected "
            "a word and numbers such as -0.25 or 1e-3, separated by single spaces"
        )
    try:
        numbers = array("f", map(float, parts[-width:]))
    except ValueError as error:
        raise DataError(f"{place}: {error}, expected {width} numbers after {word!r}") from None
    if not math.isfinite(sum(numbers)):
        raise DataError(f"{place}: a number of {word!r} is not finite in 32 bits")
    return word, numbers


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends and without spaces there; blank ones at the end are left out."""
    number, blank, counts = 0, 0, False
    try:
        with path.open("rb") as opened:
            file = BoundedGzip(path, opened) if path.suffix == ".gz" else opened
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    _refuse_formats(path, raw)
                    counts = all(part.isdigit() for part in raw.split())
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \r\n")
                if not line:
                    blank = blank or number
                    continue
                if blank:
                    raise DataError(f"{path}:{blank}: a blank line; expected a word and numbers")
                yield line
    except UnicodeDecodeError as error:
        hint = "; is it word2vec's binary form?" if counts and number == 2 else ""
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}){hint}") from None
    except EOFError:
        raise DataError(f"{path}: the file is cut short after line {number}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: incomplete gzip file ({error})") from None


def _refuse_formats(path: Path, raw: bytes) -> None:
    for start, what in _FORMATS.items():
        if raw.startswith(start) and (start != b"BZ" or b"\0" in raw[:64]):
            raise DataError(f"{path}:1: {what}")
