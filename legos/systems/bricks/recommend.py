"""Brick models as recommenders: items are encoded once, readers per request."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import pad

from legos.blocks.embedding import GivenVectors
from legos.data.interactions import States, with_generated
from legos.data.items import ItemStore
from legos.data.new_items import NewItems
from legos.data.texts import join_texts
from legos.data.vector_files import Encoder, encoder_of
from legos.errors import ConfigError
from legos.lm.locate import model_folder
from legos.lm.text_vectors import text_vectors
from legos.recommender import Recommender
from legos.registry import brick_class, bricks_in
from legos.systems.bricks.catalogue import FactoredScores, PairScores, as_products
from legos.systems.bricks.score import Source, cache_items, cache_users
from legos.systems.protocol import Readers
from legos.systems.recommending import ByScores
from legos.workplace.language import language_of_new_items
from legos.workplace.workplace import Workplace

_READ_CONTENT = frozenset({"embeddings", "language_model"})  # arguments of item encoders
_GIVEN = "item_vectors"


class BricksRecommender(ByScores):
    """A trained model of bricks, see :class:`legos.systems.protocol.Recommending`.

    Args:
        workplace: of the run.
        model: with trained weights; it is in evaluation mode from here on.
    """

    def __init__(self, workplace: Workplace, model: Recommender) -> None:
        super().__init__(workplace.tables.offered, workplace.accelerator.device)
        self.workplace, self.model, self.store = workplace, model.eval(), workplace.store
        self.vectors = _by_columns(
            cache_items(
                model,
                self.store,
                page_size=workplace.config.exp.evaluate.page_size,
                sharing=workplace.sharing,
            )
        )
        self._product, self._prepared = as_products(model, self.vectors, self.offered)

    @property
    def history_length(self) -> int:
        """Number of newest items of a history that the model reads."""
        return self.workplace.config.data.history_length

    @property
    def reads(self) -> Sequence[str]:
        """Fields of the tables that the item encoder or its language model may read."""
        if self._encoder is not None:
            return self._encoder.fields
        return [field.column.partition("@")[0] for field in self.workplace.config.data.fields]

    @property
    def similarity(self) -> Literal["dot", "cosine"] | None:
        """How scores follow from the vectors of readers and items."""
        bricks = self.workplace.config.bricks
        if bricks.user.output != "vector":
            return None
        known: dict[str, Literal["dot", "cosine"]] = {
            "dot": "dot",
            "cosine": "cosine",
            "manner": "dot",
        }
        return known.get(bricks.predictor.name)

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU."""
        return self.vectors.cpu()

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU, ``(R, K, D)`` of several interests.

        Raises:
            ConfigError: a reader is another vector for every item, or none.
        """
        if not self.model.factors:
            user = self.workplace.config.bricks.user.name
            raise ConfigError(
                f"model {self.workplace.config.model.name}: user encoder {user} has no vector of a "
                "user alone, it reads the history in view of each item; take scores"
            )
        return self._users(readers).cpu()

    def extended(self, items: NewItems) -> Self:
        """Return a recommender with further items, encoded by the trained item encoder.

        Raises:
            ConfigError: the item encoder reads nothing of what an item says.
        """
        known = len(self.store)
        other = copy(self)
        new = torch.ones(len(items), dtype=torch.bool)
        ByScores.__init__(other, torch.cat([self.offered, new]), self.device)
        other.store = self._with_content(items)
        ids = torch.arange(known, len(other.store), device=self.device)
        encoder, given = self.model.item_encoder, self._given(items)
        with torch.no_grad():
            pages = ids.split(self.workplace.config.exp.evaluate.page_size)
            made = [functional_call(encoder, given, (other.store.batch(page),)) for page in pages]
        other.vectors = torch.cat([self.vectors, *(vectors.float() for vectors in made)])
        other._product, other._prepared = as_products(self.model, other.vectors, other.offered)
        return other

    @cached_property
    def _item_reads(self) -> set[str]:
        """Arguments of the item encoder and of those inside it."""
        bricks = bricks_in(self.workplace.config.bricks)
        kinds = [brick_class(brick) for key, brick in bricks if key[:4] == "item"]
        return {name for kind in kinds if kind for name in inspect.signature(kind).parameters}

    @cached_property
    def _encoder(self) -> Encoder | None:
        """The encoder of precomputed item vectors; None if none are read or it is unknown."""
        path = self.workplace.config.embed.item_vectors
        return encoder_of(path) if path is not None and _GIVEN in self._item_reads else None

    def _given(self, items: NewItems) -> dict[str, Tensor]:
        """Replacements of precomputed vectors in the item encoder for new items, by name.

        Nothing where none are read. Vectors of items that were added before are not needed again.
        """
        if self._encoder is None:
            return {}
        texts = join_texts([items.texts[name] for name in self._encoder.fields])
        found_by = text_vectors(texts, model_folder(self._encoder.model), self._encoder)
        vectors = torch.from_numpy(found_by).to(self.device)
        found = {}
        for name, part in self.model.item_encoder.named_modules():
            if isinstance(part, GivenVectors):
                between = len(self.store) - len(part.vectors)
                known = pad(part.vectors, (0, 0, 0, between))
                present = torch.ones(len(known) + len(vectors), dtype=torch.bool)
                prefix = f"{name}." if name else ""
                found[f"{prefix}vectors"] = torch.cat([known, vectors])
                found[f"{prefix}present"] = present.to(self.device)
        return found

    def _with_content(self, items: NewItems) -> ItemStore:
        workplace, config = self.workplace, self.workplace.config
        reads = self._item_reads
        if _GIVEN in reads and self._encoder is None:
            raise ConfigError(
                f"model {config.model.name}: nothing in {config.embed.item_vectors} says what made "
                "its vectors, so that a new item gets none; a file of python -m "
                "process.item_vectors says so"
            )
        if not reads & {*_READ_CONTENT, _GIVEN}:
            raise ConfigError(
                f"model {config.model.name}: item encoder {config.bricks.item.name} reads nothing "
                "that a new item says; it has to be trained again with the item"
            )
        added = items.store(workplace.tables, config.data.fields, self.store)
        if workplace.language_model is None:
            return self.store.extended(added)
        language = language_of_new_items(
            config,
            workplace.tables,
            workplace.language_model,
            self.store.language,
            items,
            self.device,
        )
        return self.store.extended(added, language)

    @torch.no_grad()
    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Score some items or all, ``(R, C)``."""
        states = States(torch.arange(len(readers), device=self.device), self._numbers(readers))
        if self.model.factors:
            vectors = self.vectors if items is None else self.vectors[items]
            return FactoredScores(self._product, vectors, self._users(readers))(states.histories)
        pairs = PairScores(self.model, self.vectors, self._source(readers), states, items)
        return pairs(states.histories)

    @torch.no_grad()
    def _users(self, readers: Readers) -> Tensor:
        """Encode readers, ``(R, ...)``."""
        states = States(torch.arange(len(readers), device=self.device), self._numbers(readers))
        users = cache_users(
            self.model,
            self.vectors,
            self._source(readers),
            states,
            page_size=self.workplace.config.exp.evaluate.page_size,
        )
        return self._prepared(users)

    def _numbers(self, readers: Readers) -> Tensor:
        return readers.users.to(self.device)

    def _source(self, readers: Readers) -> Source:
        """The input of the user encoder; histories include items generated for their users."""
        data, tables = self.workplace.config.data, self.workplace.tables
        whole = with_generated(tables, readers.histories, readers.users, data.generated_items)
        histories = whole.tail(data.history_length).to(self.device)
        return Source(histories, self.store.whole(), self.workplace.profiles)


def _by_columns(vectors: Tensor) -> Tensor:
    """Return the matrix ``(N, D)`` in column-major memory order.

    On a CPU the product of one reader with 100,000 items of 64 numbers takes 0.6 of the time.
    """
    return vectors.mT.contiguous().mT
