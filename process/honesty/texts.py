"""Texts: empty, repeated, with markup left in, or unknown to their tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.entities import html5

import numpy as np
import pandas as pd

from legos.data.honesty import TextHonesty
from legos.data.ragged import Ragged
from process.honesty.evidence import Evidence
from process.honesty.rules import percent

MOST_READ = 200_000  # texts of a field searched for markup: a share is then known to .2 % or better
UNKNOWN_TOKENS = ("[UNK]", "<unk>", "<unknown>", "<|unk|>", "<UNK>", "[unk]")
_TAGS = (
    "a|abbr|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|"
    "iframe|img|input|li|link|meta|ol|p|pre|s|script|small|span|strong|style|sub|sup|table|tbody|"
    "td|th|thead|title|tr|u|ul"
)
_MARKUP = re.compile(
    rf"</?(?:{_TAGS})(?:\s+[A-Za-z-]+\s*=[^<>]*)?\s*/?>|&(?:#\d{{1,7}}|#[xX][0-9a-fA-F]{{1,6}});"
)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_NAMES = frozenset(name[:-1] for name in html5 if name.endswith(";"))


def measure_texts(evidence: Evidence, seed: int) -> dict[str, TextHonesty]:
    """By field of the items, then of other tables."""
    found = {}
    for field, texts in evidence.texts.items():
        table, dot, name = field.rpartition(".")
        empty = np.fromiter((not text.strip() for text in texts), dtype=bool, count=len(texts))
        found[field] = TextHonesty(
            texts=len(texts),
            empty=percent(empty),
            markup=percent(np.array([has_markup(text) for text in _sample(texts, seed)], bool)),
            unknown=_unknown(evidence, table if dot else "items", name),
        )
    return found


def has_markup(text: str) -> bool:
    """Whether an HTML tag or a known entity is left in a text."""
    if "<" not in text and "&" not in text:
        return False
    if _MARKUP.search(text):
        return True
    return any(found[1] in _NAMES for found in _ENTITY.finditer(text))


def repeated_items(evidence: Evidence) -> tuple[int, int]:
    """How many items have no text at all, and how many only texts of an earlier item."""
    columns = [texts for field, texts in evidence.texts.items() if "." not in field]
    if not columns:
        return evidence.num_items, 0
    hashes = np.zeros(evidence.num_items, dtype=np.uint64)
    empty = np.ones(evidence.num_items, dtype=bool)
    for number, texts in enumerate(columns):
        values = np.array([" ".join(text.lower().split()) for text in texts], dtype=object)
        empty &= values == ""
        own = pd.util.hash_array(values, categorize=False)
        hashes = hashes * np.uint64(1_000_003) + own + np.uint64(number)
    repeated = pd.Series(hashes[~empty]).duplicated()
    return int(empty.sum()), int(repeated.sum())


def _sample(texts: Sequence[str], seed: int) -> Sequence[str]:
    if len(texts) <= MOST_READ:
        return texts
    rows = np.random.default_rng(seed).permutation(len(texts))[:MOST_READ]
    return [texts[row] for row in rows.tolist()]


def _unknown(evidence: Evidence, table: str, field: str) -> dict[str, float]:
    shares = {}
    for column, values in evidence.tables.get(table, {}).items():
        name, at, tokenizer = column.partition("@")
        if name != field or not at or not isinstance(values.values, Ragged):
            continue
        vocabulary = evidence.vocabularies.get(tokenizer, ())
        ids = [vocabulary.index(token) for token in UNKNOWN_TOKENS if token in vocabulary]
        if ids:
            shares[tokenizer] = percent(np.isin(values.values.values, ids))
    return shares
