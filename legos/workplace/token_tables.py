"""Pretrained vectors of the entries of vocabularies, as an embed YAML names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from legos.config.data_schema import EmbedConfig
from legos.data.items import ItemField
from legos.data.tables import Tables
from legos.errors import ConfigError, nearest
from legos.files import sha256_of_text
from legos.lm.settings import LanguageModelSource
from legos.lm.token_vectors import (
    TokenVectors,
    align_token_vectors,
    language_model_token_vectors,
    read_token_table,
    text_file_token_vectors,
)
from legos.recommender import TokenTable


def token_tables(
    embed: EmbedConfig,
    tables: Tables,
    fields: Iterable[ItemField],
    *,
    seed: int,
    say: Callable[[str], None],
) -> Mapping[str, TokenTable]:
    """Pretrained vectors for the vocabularies of the text fields.

    ``seed`` is that of the vectors of entries that have none; ``say`` is told how many those are.

    Raises:
        ConfigError: ``embed.vocabulary`` is not one of them, or no word of a vocabulary has a
            vector.
    """
    if embed.source == "random":
        return {}
    names = {field.vocabulary for field in fields if field.is_text}
    if embed.vocabulary is not None:
        if embed.vocabulary not in names:
            raise ConfigError(
                f"embed.vocabulary: no text field uses vocabulary {embed.vocabulary!r}; "
                f"{nearest(embed.vocabulary, names)}"
            )
        names = {embed.vocabulary}
    pretrained = pretrained_token_vectors(embed)
    origin = embed.path.name if isinstance(embed.path, LanguageModelSource) else embed.path
    width = pretrained.vectors.shape[1]
    if embed.embed_hidden_size not in (None, width):
        raise ConfigError(
            f"embed.embed_hidden_size: {embed.embed_hidden_size}, but the vectors of {origin} "
            f"have {width} numbers"
        )
    found = {}
    for name in sorted(names):
        aligned, count = align_token_vectors(
            pretrained.tokens, pretrained.vectors, tables.vocabulary(name), seed
        )
        if count == 0:
            raise ConfigError(
                f"embed.path: {origin} has a vector for none of the {aligned.shape[0]} entries "
                f"of vocabulary {name!r}; was the text tokenized with another tokenizer?"
            )
        if count < len(aligned) or pretrained.repeated:
            say(
                f"{origin}: vectors for {count:,} of the {len(aligned):,} entries "
                f"of vocabulary {name!r}, {len(aligned) - count:,} start at random; "
                f"{pretrained.repeated:,} repeated lines left out"
            )
        described = f"{embed.source} {origin} {name} {tables.fingerprint}"
        found[name] = TokenTable(aligned, embed.frozen, sha256_of_text(described))
    return found


def pretrained_token_vectors(embed: EmbedConfig) -> TokenVectors:
    """Tokens and their vectors as the embed YAML says."""
    if embed.path is None:
        raise ConfigError(f"embed.path: missing, although embed.source is {embed.source!r}")
    if embed.source == "language_model":
        return language_model_token_vectors(LanguageModelSource.model_validate(embed.path))
    path = Path(str(embed.path))
    if embed.source == "token_table":
        return read_token_table(path)
    return text_file_token_vectors(path)
