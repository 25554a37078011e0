"""CLLM4Rec as a recommender: prompts of its users, scores of its items, sessions."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from legos.data.new_items import NewItems
from legos.errors import ConfigError
from legos.systems.cllm4rec.batches import RecommendationPrompts, Templates
from legos.systems.cllm4rec.evaluate import UserSession, score_all
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.protocol import Readers
from legos.systems.recommending import ByScores
from legos.workplace.workplace import Workplace


class Cllm4RecRecommender(ByScores):
    """A trained CLLM4Rec, see :class:`legos.systems.protocol.Recommending`.

    Every user and item is a token that training learns, so that there are no new ones.

    Args:
        workplace: of the run.
        model: with trained tables, in evaluation mode.
        prompts: as a test reads them.
        templates: of the prompts.
    """

    def __init__(
        self,
        workplace: Workplace,
        model: Cllm4Rec,
        prompts: RecommendationPrompts,
        templates: Templates,
    ) -> None:
        super().__init__(workplace.tables.offered, workplace.accelerator.device)
        self.workplace, self.model = workplace, model
        self.prompts, self.templates = prompts, templates

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU; scores are their products with states of prompts."""
        return self.model.item_head.detach().float().cpu()

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU: the tokens of users, whatever they have read.

        Raises:
            ConfigError: a reader is no user of the data.
        """
        self._refuse_new(readers)
        table = self.model.collaborative.user.weight
        return table.detach()[readers.users.to(table.device)].float().cpu()

    def extended(self, items: NewItems) -> Self:
        """Raise ConfigError: a new item has no token."""
        raise ConfigError(
            f"model {self.workplace.config.model.name}: cllm4rec learns a token of every item, and "
            f"new ones ({items.ids[0]!r}) have none before it is trained again; bricks take items "
            "by their texts"
        )

    def session(self, user: int, items: Tensor) -> UserSession:
        """One user with keys and values of what they have had, ``(n,)`` int64, cached.

        Raises:
            ConfigError: the language model is an encoder-decoder, which keeps no prefix.
        """
        never = (~self.offered).nonzero()[:, 0].tolist()
        return UserSession(self.model, self.templates, user, items, never=never)

    def compute(self, readers: Readers, items: Tensor | None) -> Tensor:
        """Scores of some items or all, ``(R, C)``; ConfigError: a reader is no user."""
        self._refuse_new(readers)
        found = score_all(
            self.workplace, self.model, self.prompts, readers.users, readers.histories
        )
        return found if items is None else found[:, items]

    def _refuse_new(self, readers: Readers) -> None:
        if bool((readers.users >= self.workplace.tables.num_users).any()):
            raise ConfigError(
                f"model {self.workplace.config.model.name}: cllm4rec learns a token of every user, "
                "and somebody new has none before it is trained again; give a user of the data "
                "(with history=... if that is another)"
            )
