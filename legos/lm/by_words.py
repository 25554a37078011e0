"""Token ids of many names at once: every word is tokenized once, however many names have it.

Most tokenizers never look across a blank: a name is then the tokens of its words, each word after
the first with the blank before it. Others read a whole name as one piece, and so do we.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from legos.data.ragged import RaggedArray, from_lengths, from_rows
from legos.lm.tokenizer import token_ids

_PAGE = 2048  # words that are given to a tokenizer together
_CUT_AT_BLANKS = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_WITHIN_WORDS = frozenset({"Digits", "Punctuation"})  # cut words and leave blanks alone
_LETTERWISE = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "StripAccents"})
_WORDS_OF_GPT_4 = (  # of LLaMA 3 with 1 to 3 digits in a piece, of Qwen with one
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}|"
    r" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_REGEXES = frozenset(_WORDS_OF_GPT_4.format(digits=digits) for digits in ("", "{1,3}"))


class Surfaces(NamedTuple):
    """Token ids of N names (int32), N rows each.

    Attributes:
        bare: of the names.
        spaced: of the names with a blank before them.
    """

    bare: RaggedArray
    spaced: RaggedArray


def name_tokens(tokenizer: Any, names: Sequence[str]) -> Surfaces:
    """Token ids of names, each alone and without special tokens.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` of :func:`legos.lm.tokenizer.literal_copy`.
        names: with single blanks between their words and none at the ends; none is empty.
    """
    if not splits_at_blanks(tokenizer):
        rows = token_ids(tokenizer, [*names, *(f" {name}" for name in names)])
        count = len(names)
        return Surfaces(from_rows(rows[:count], "int32"), from_rows(rows[count:], "int32"))
    split = [name.split(" ") for name in names]
    counts = np.fromiter(map(len, split), np.int64, len(split))
    words = {word: row for row, word in enumerate(dict.fromkeys(chain.from_iterable(split)))}
    firsts = dict.fromkeys(each[0] for each in split)
    bare_rows = {word: len(words) + row for row, word in enumerate(firsts)}
    pieces = _encoded(tokenizer, [*(f" {word}" for word in words), *firsts])
    total = int(counts.sum())
    spaced = from_lengths(
        np.fromiter(map(words.__getitem__, chain.from_iterable(split)), np.int64, total), counts
    )
    bare = spaced.values.copy()
    bare[spaced.offsets[:-1]] = np.fromiter((bare_rows[w[0]] for w in split), np.int64, len(split))
    return Surfaces(
        pieces.select(bare).grouped(spaced.offsets),
        pieces.select(spaced.values).grouped(spaced.offsets),
    )


def _encoded(tokenizer: Any, pieces: Sequence[str]) -> RaggedArray:
    """Token ids of pieces, each alone; an object of the tokenizer holds those of many of them."""
    pages = [pieces[begin : begin + _PAGE] for begin in range(0, len(pieces), _PAGE)]
    found = tokenizer.encode_batch(pages, is_pretokenized=True, add_special_tokens=False)
    values, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for page, encoding in zip(pages, found, strict=True):
        values.append(np.array(encoding.ids, dtype=np.int32))
        owners = np.array(encoding.word_ids, dtype=np.int64)
        lengths.append(np.bincount(owners, minlength=len(page)))
    return from_lengths(np.concatenate(values), np.concatenate(lengths))


def splits_at_blanks(tokenizer: Any) -> bool:
    """Whether a text's tokens are those of its words, the blank before a word being part of it.

    True for what is known to be so: byte-level BPE of GPT-2, LLaMA 3 and Qwen, BERT's WordPiece,
    SentencePiece that cuts before marked words. False for everything else, and where a token was
    added that may reach across a blank.
    """
    described = json.loads(tokenizer.to_str())
    reaching = any(
        token["lstrip"] or token["rstrip"] or token["content"].split() != [token["content"]]
        for token in described["added_tokens"]
        if not token["special"]
    )
    steps = _steps(described["pre_tokenizer"], "pretokenizers")
    normalizers = {step["type"] for step in _steps(described["normalizer"], "normalizers")}
    local = all(map(_stays_within_words, steps)) and normalizers <= _LETTERWISE
    return local and not reaching and any(map(_cuts_at_blanks, steps))


def _steps(described: Any, parts: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer: of a sequence all, of anything else itself."""
    if described is None:
        return []
    if described["type"] != "Sequence":
        return [described]
    return [step for each in described[parts] for step in _steps(each, parts)]


def _stays_within_words(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] in _WITHIN_WORDS or _cuts_at_blanks(step)


def _cuts_at_blanks(step: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer cuts before a single blank, which goes with the next word or goes."""
    match step["type"]:
        case "ByteLevel":
            return bool(step["use_regex"])
        case "Metaspace":
            return bool(step["split"]) and step["prepend_scheme"] != "first"
        case "Split":
            isolated = step["behavior"] == "Isolated" and not step["invert"]
            return isolated and step["pattern"].get("Regex") in _REGEXES
        case kind:
            return kind in _CUT_AT_BLANKS
