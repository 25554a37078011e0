"""From texts to token ids: a tokenizer that fits its model, and an item's fields after prompts.

ONCE (WSDM 2024) reads "news article: <title> ... <abstract> ... <category> ..." (DIRE, section
3.1). Opening and prompts come from the data YAML; every piece is tokenized on its own, so that a
field's length counts its own tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, from_rows, join_rows
from legos.errors import ConfigError

_SHOWN = 3


def fit_to_table(tokenizer: Any, rows: int, name: str) -> Any:
    """A tokenizer all of whose ids have a row in a token table.

    An id without a row ends in an index error on the CPU, in an assertion on a GPU, and in a system
    that puts users and items behind the words it is taken for one of these. Special tokens without
    a row are left out (Gemma 3 of 1B has one for images): no text is read as one of them.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        rows: of the table.
        name: of the language model, for errors.

    Raises:
        ConfigError: words have no row, or a text cannot do without such a special token.
    """
    beyond = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    if not beyond:
        return tokenizer
    added = tokenizer.get_added_tokens_decoder()
    words = {
        token: index
        for token, index in sorted(beyond.items(), key=lambda pair: pair[1])
        if index not in added or not added[index].special
    }
    described = json.loads(tokenizer.to_str())
    around = json.dumps(described.get("post_processor"))  # with what every text gets
    if not words and any(json.dumps(token) in around for token in beyond):
        words = beyond
    if words:
        shown = ", ".join(f"{token!r} ({index})" for token, index in list(words.items())[:_SHOWN])
        raise ConfigError(
            f"language model {name!r}: its token table has {rows:,} rows, its tokenizer "
            f"{len(words):,} tokens beyond them: {shown}{', ...' if len(words) > _SHOWN else ''}; "
            "is it another model's tokenizer, or were tokens added without "
            "resize_token_embeddings()?"
        )
    described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < rows]
    return type(tokenizer).from_str(json.dumps(described))


@dataclass(frozen=True)
class TemplateField:
    """A field of the template."""

    name: str
    texts: Sequence[str]  # of the N items; an empty one is left out together with its prompt
    prompt: str  # what stands before it
    length: int | None  # the most tokens it keeps; None for all


@dataclass(frozen=True)
class ItemTemplate:
    """What a language model reads of N items: an opening, then fields in reading order."""

    opening: str
    fields: Sequence[TemplateField]


def encode_items(
    tokenizer: Any,
    fields: Sequence[TemplateField],
    *,
    opening: str = "",
    longest: int | None = None,
) -> Ragged:
    """Token ids of N items, int64, special tokens at both ends included.

    Raises:
        ConfigError: an item is longer than ``longest``, the most tokens the model can read.
    """
    count = len(fields[0].texts)
    before, after = special_tokens(tokenizer)
    lead = _lead(tokenizer)
    segments = [_constant(before, count), _constant(_piece(tokenizer, opening, lead=""), count)]
    started = bool(opening)
    for field in fields:
        present = torch.tensor([bool(text.strip()) for text in field.texts])
        prompt = _piece(tokenizer, field.prompt, lead=lead if started else "")
        segments.append(_constant(prompt, count, present))
        started = started or bool(field.prompt)
        segments.append(_tokens(tokenizer, field, present, lead if started else ""))
        started = True
    segments.append(_constant(after, count))
    encoded = join_rows(segments)
    if longest is not None and count and int(encoded.lengths.max()) > longest:
        item = int(encoded.lengths.argmax())
        raise ConfigError(
            f"item number {item} has {int(encoded.lengths[item])} tokens, the language model reads "
            f"at most {longest}; give the fields lengths: "
            + ", ".join(f"{field.name} ({field.length or 'all'})" for field in fields)
        )
    return encoded


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and after a text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return whole[:begin], whole[begin + len(bare) :]
    return [], []


def _lead(tokenizer: Any) -> str:
    """What must stand before a word for it to be tokenized as in the middle of a text."""
    inside = tokenizer.encode("a word", add_special_tokens=False).ids
    alone = tokenizer.encode("word", add_special_tokens=False).ids
    return "" if inside[-len(alone) :] == alone else " "


def _piece(tokenizer: Any, text: str, *, lead: str) -> list[int]:
    ids: list[int] = tokenizer.encode(lead + text, add_special_tokens=False).ids if text else []
    return ids


def _tokens(tokenizer: Any, field: TemplateField, present: Tensor, lead: str) -> Ragged:
    distinct = {text: row for row, text in enumerate(dict.fromkeys(field.texts))}
    ids = token_ids(tokenizer, [lead + text for text in distinct])
    rows = torch.tensor([distinct[text] for text in field.texts], dtype=torch.int64)
    tokens = from_rows([each[: field.length] for each in ids], "int64").tensors().select(rows)
    return tokens.head(tokens.lengths * present)


def _constant(ids: list[int], count: int, present: Tensor | None = None) -> Ragged:
    lengths = torch.full((count,), len(ids))
    if present is not None:
        lengths = lengths * present
    values = torch.tensor(ids, dtype=torch.int64).repeat(int((lengths > 0).sum()))
    return from_lengths(values, lengths)


def literal_copy(tokenizer: Any) -> Any:
    """The same ``tokenizers.Tokenizer`` that neither cuts, pads nor sees special tokens in text."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True  # "<|endoftext|>" in a review is text
    return copy


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of texts, each alone and without special tokens: int32 arrays."""
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) if texts else []
    return [np.asarray(encoding.ids, dtype=np.int32) for encoding in found]
