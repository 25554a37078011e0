"""Tokens of a tokenizer that a model has no vector for.

Such an id ends in an index error on the CPU, in an assertion on a GPU, and in a system that puts
users and items behind the words it is taken for one of these.
"""

from __future__ import annotations

import json
from typing import Any

from legos.errors import ConfigError

_SHOWN = 3


def fit_to_table(tokenizer: Any, rows: int, name: str) -> Any:
    """A tokenizer all of whose ids have a row in a token table.

    Special tokens without a row are left out (Gemma 3 of 1B has one for images): no text is read as
    one of them.

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
    if not words and _is_used(beyond, described.get("post_processor")):
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


def _is_used(tokens: dict[str, int], processor: Any) -> bool:
    """Whether every text gets one of some tokens."""
    text = json.dumps(processor)
    return any(json.dumps(token) in text for token in tokens)
