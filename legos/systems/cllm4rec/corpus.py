"""The corpus of a run: found in its token store, or read from the tables and put there."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from legos.errors import DataError
from legos.lm.load import LanguageModel
from legos.systems.cllm4rec.data import chosen_kinds, read_corpus
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.token_store import TokenizedCorpus, TokenStore
from legos.systems.cllm4rec.tokenizer import SoftTokenizer
from legos.workplace.workplace import Workplace

_VERSION = 1  # of what is stored; another is another store


def token_store(place: Workplace, settings: Cllm4RecModel, language: LanguageModel) -> TokenStore:
    """Where the texts of a run lie as token ids, whether they are there or not.

    Raises:
        ConfigError: the data do not have the kinds of text that are asked for.
    """
    data, tables = place.config.data, place.tables
    kinds = chosen_kinds(settings.content.kinds, data, tables)
    facts: dict[str, Any] = {
        "version": _VERSION,
        "data": data.name,
        "tables": tables.fingerprint,
        "kinds": kinds,
        "fields": [[field.name, field.column.split("@")[0]] for field in data.fields],
        "tokenizer": language.tokenizer_fingerprint,
        "library": f"tokenizers {version('tokenizers').split('.')[0]}",
        "leading_space": settings.content.main_leading_space,
    }
    return TokenStore(place.config.exp.cache.token_folder / language.name, facts)


def tokenized_corpus(
    place: Workplace,
    settings: Cllm4RecModel,
    tokenizer: SoftTokenizer,
    language: LanguageModel,
    say: Callable[[str], None],
) -> TokenizedCorpus:
    """The texts of a run as token ids; they are tokenized, after saying so, where they are not.

    Raises:
        ConfigError: the data do not have the kinds of text that are asked for.
        DataError: the store is damaged, or there is no text at all.
    """
    store = token_store(place, settings, language)
    if not store.finished:
        begin = time.monotonic()
        corpus = read_corpus(store.facts["kinds"], place.config.data, place.tables)
        if not corpus.texts:
            raise DataError(
                f"{place.tables.folder}: not one text of kind {', '.join(store.facts['kinds'])}; "
                "set model.content.enabled to false"
            )
        say(f"tokenizing {len(corpus.texts):,} texts for {language.name} into {store.path}")
        space = settings.content.main_leading_space
        store.write(corpus, lambda texts: tokenizer.encode_plain(texts, leading_space=space))
        say(f"tokenized in {time.monotonic() - begin:.1f} s")
    return store.open()
