"""Vectors of the items' texts that baselines compare: those that the run itself has, if any."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy import sparse

from legos.baselines.data import unit_words
from legos.config.exp_schema import MINILM
from legos.config.model_schema import ModelConfig, reads_token_vectors
from legos.config.schema import RunConfig
from legos.data.languages import minilm_knows
from legos.data.ragged import Ragged
from legos.data.tables import Columns, Tables
from legos.data.vector_files import read_item_vectors
from legos.item.text_vectors import TextVectorsConfig
from legos.lm.settings import LanguageModelSource
from legos.lm.states import FINAL, unit_rows
from legos.registry import bricks_in
from legos.workplace.workplace import Workplace

Source = Literal["states", "given", "tokens", "words", "model"]
TextVectors: TypeAlias = Any
"""A numpy array or scipy's csr matrix ``(items, E)``, rows of length 1, zeros without a word."""


def text_source(
    config: RunConfig, tables: Tables, text_model: LanguageModelSource | None
) -> Source:
    """Where the vectors of the baselines that compare texts come from.

    ``model``: the language model that is named, or else MiniLM. Without one that is named, a run's
    own count before it. ``states``: those that item encoder ``text_vectors``
    reads; ``given``: the file of ``embed.item_vectors``; ``tokens``: pretrained token vectors other
    than MiniLM's. ``words``: the tables' own tokens, where MiniLM does not know the texts.
    """
    model, embed = config.model, config.embed
    if text_model is not None:
        return "model"
    if isinstance(model, ModelConfig):
        if any(isinstance(brick, TextVectorsConfig) for _, brick in bricks_in(model)):
            return "states"
        if "item_vectors" in model.needs and embed.item_vectors is not None:
            return "given"
        own = embed.source != "random" and getattr(embed.path, "package", "") != MINILM.package
        if own and reads_token_vectors(model):
            return "tokens"
    return "model" if minilm_knows(Columns(tables.folder, tables.manifest)) else "words"


def own_text_vectors(
    workplace: Workplace, text_model: LanguageModelSource | None
) -> TextVectors | None:
    """Those of the run itself; None where a language model reads the texts for the baselines."""
    config, tables = workplace.config, workplace.tables
    source = text_source(config, tables, text_model)
    if source == "states" and FINAL in workplace.store.language:
        states = workplace.store.language[FINAL]
        found = states.select(torch.arange(tables.num_items)).values.float()
        return unit_rows(found.cpu().numpy())
    if source == "given" and config.embed.item_vectors is not None:
        return unit_rows(read_item_vectors(config.embed.item_vectors, tables).nan_to_num().numpy())
    if source in ("tokens", "words") and workplace.store.texts:
        return _of_tokens(workplace, pretrained=source == "tokens")
    return None


def _of_tokens(workplace: Workplace, *, pretrained: bool) -> TextVectors:
    """Sum over an item's tokens of their inverse document frequency, times their vectors.

    Without pretrained vectors tokens are axes of their own (tf-idf).
    """
    store = workplace.store
    tables = workplace.token_tables(lambda text: None) if pretrained else {}
    parts: list[TextVectors] = []
    for name, tokens in store.texts.items():
        vocabulary = store.fields[name].vocabulary
        weights = _inverse_frequencies(tokens.to("cpu"), store.fields[name].size)
        if not pretrained:
            parts.append(weights)
        elif vocabulary in tables:
            parts.append(weights @ tables[vocabulary].vectors.cpu().float().numpy())
    if pretrained and parts:
        return unit_rows(np.sum(parts, axis=0))
    return unit_words(sparse.hstack(parts).tocsr().astype(np.float32))


def _inverse_frequencies(tokens: Ragged, size: int) -> sparse.csr_matrix:
    """``(items, size)`` count of each token times log of items over items that have it."""
    counts = sparse.csr_matrix(
        (
            np.ones(tokens.values.numel(), np.float32),
            tokens.values.numpy(),
            tokens.offsets.numpy(),
        ),
        shape=(len(tokens), size),
    )
    counts.sum_duplicates()
    having = np.bincount(counts.indices, minlength=size)
    return (counts @ sparse.diags(np.log(len(tokens) / np.maximum(having, 1)))).tocsr()
