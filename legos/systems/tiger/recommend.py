"""TIGER as a recommender: proven lists of the most likely items; new items by their texts."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Self

import torch
from torch import Tensor

from legos.baselines.text_cosine import vectors_of_texts
from legos.data.new_items import NewItems
from legos.data.ragged import Ragged
from legos.evaluation.rank import Best
from legos.systems.protocol import Readers
from legos.systems.recommending import ByScores
from legos.systems.tiger.model import Tiger
from legos.systems.tiger.quantiser import further_codes
from legos.systems.tiger.settings import TigerModel
from legos.systems.tiger.texts import refuse_words
from legos.systems.tiger.writer import Histories, Writer
from legos.workplace.workplace import Workplace


class TigerRecommender(ByScores):
    """A trained TIGER, see :class:`legos.systems.protocol.Recommending`.

    A score is the log-probability of an item's codes.

    Args:
        workplace: of the run.
        model: with trained weights, in evaluation mode.
        users: ``(users + 1,)`` int64 token of each, last that of somebody new.
    """

    def __init__(self, workplace: Workplace, model: Tiger, users: Tensor) -> None:
        super().__init__(workplace.tables.offered, workplace.accelerator.device)
        self.workplace, self.users = workplace, users
        self._take(model)

    def _take(self, model: Tiger) -> None:
        self.model = model
        self._writer = Writer(model, self.offered.nonzero()[:, 0].to(self.device))

    @property
    def reads(self) -> Sequence[str]:
        """Fields that the codes of an item are made from: all texts."""
        return self.workplace.tables.text_fields

    @property
    def history_length(self) -> int:
        """Maximum number of newest items of a history that are read."""
        return self.workplace.config.data.history_length

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """Find the best items of each reader, proven."""
        count = min(count, int(self.offered.sum()))
        best = self._writer.lists(self._histories(readers), excluded.to(self.device), count)
        return Best(*(each.cpu() for each in best if each is not None))

    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Score some items or all, ``(R, C)``."""
        if items is None:
            items = torch.arange(len(self.offered), device=self.device)
        return self._writer.scores(self._histories(readers), items.expand(len(readers), -1))

    def _histories(self, readers: Readers) -> Histories:
        items = readers.histories.tail(self.history_length).to(self.device)
        return Histories(items, self.users[readers.users.to(self.device)])

    def extended(self, items: NewItems) -> Self:
        """Return a recommender with further items, whose codes come from their texts.

        Raises:
            ConfigError: codes were made of the words of the tables, or too many items share theirs.
        """
        own, tables = TigerModel.of(self.workplace.config.model), self.workplace.tables
        refuse_words(self.workplace, own.model)
        texts = [items.texts[name] for name in tables.text_fields]
        vectors = torch.from_numpy(vectors_of_texts(texts, own.model)).to(self.device)
        model = deepcopy(self.model)
        model.extend(further_codes(model.codes, model.quantiser(vectors)))
        other = copy(self)
        new = torch.ones(len(items), dtype=torch.bool)
        ByScores.__init__(other, torch.cat([self.offered, new]), self.device)
        other._take(model)
        return other
