"""Foreign vocabularies: texts out of their tokens, and a tokenizer that cuts new texts by them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from legos.data.ragged import RaggedArray
from legos.data.tokenizers import SubwordTokenizer, TextTokenizer, WordTokenizer

if TYPE_CHECKING:
    from tokenizers.decoders import Decoder

SOURCE = "unitok"
SPECIAL = frozenset(
    [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<unknown>",
        "<|endoftext|>",
    ]
)
_SHARE = 0.05  # of entries that begin with a mark of their kind


def kind_of(vocabulary: Sequence[str]) -> str:
    """``wordpiece``, ``metaspace``, ``bytes``, ``words``, or ``numbers`` that stand for no text."""
    if all(entry.isdigit() for entry in vocabulary):
        return "numbers"
    if len(set(vocabulary)) < len(vocabulary):
        return "words"
    for mark, kind in (("##", "wordpiece"), ("▁", "metaspace"), ("Ġ", "bytes")):
        if sum(entry.startswith(mark) for entry in vocabulary) >= _SHARE * len(vocabulary):
            return kind if kind != "wordpiece" or "[UNK]" in vocabulary else "words"
    return "words"


def foreign_tokenizer(vocabulary: list[str]) -> TextTokenizer:
    """What cuts new texts into entries of a vocabulary.

    A BERT vocabulary decides its own cuts. Of SentencePiece and byte-level ones the merges are not
    in the folder: a text is cut into the fewest pieces, which is what they do nearly always.
    """
    kind = kind_of(vocabulary)
    if kind in ("words", "numbers"):
        return WordTokenizer(vocabulary)
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    ids = {entry: row for row, entry in enumerate(vocabulary)}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106
        cased = any(entry.isascii() and entry.istitle() for entry in vocabulary)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        unknown = next((ids[entry] for entry in ("<unk>", "<s>") if entry in ids), 0)
        pieces = [(entry, -1.0) for entry in vocabulary]
        tokenizer = Tokenizer(models.Unigram(pieces, unknown, kind == "metaspace"))
        tokenizer.pre_tokenizer = (
            pre_tokenizers.Metaspace() if kind == "metaspace" else pre_tokenizers.ByteLevel()
        )
    return SubwordTokenizer(SOURCE, tokenizer)


def detokenized(tokens: RaggedArray, vocabulary: Sequence[str], separator: str = "") -> list[str]:
    """The text of every row; "" where the vocabulary stands for no text."""
    kind = kind_of(vocabulary)
    if kind == "numbers":
        return [""] * len(tokens)
    decoder = _decoder(kind)
    flat = [vocabulary[token] for token in tokens.values.tolist()]
    offsets = tokens.offsets.tolist()
    texts = []
    for begin, end in itertools.pairwise(offsets):
        parts = [part for part in flat[begin:end] if part not in SPECIAL]
        text = decoder.decode(parts) if decoder else (separator or " ").join(parts)
        texts.append(" ".join(text.split()))
    return texts


def _decoder(kind: str) -> Decoder | None:
    from tokenizers import decoders

    if kind == "wordpiece":
        return decoders.WordPiece(prefix="##")
    if kind == "metaspace":
        return decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    return decoders.ByteLevel() if kind == "bytes" else None
