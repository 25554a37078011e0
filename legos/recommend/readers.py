"""Who is recommended to: users of the tables and somebody new, by numbers and histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.ragged import Ragged, RaggedArray, from_rows
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError, nearest
from legos.evaluation.rank import excluded_by
from legos.recommend.catalogue import Catalogue
from legos.recommend.histories import clicks_in, histories_before, whole_histories
from legos.recommend.names import unknown_name
from legos.systems.protocol import Readers


@dataclass(frozen=True)
class Reader:
    """Somebody to recommend to.

    Attributes:
        user: id of a user of the data; None: somebody new.
        history: ids of items, oldest first; None: all that the user has had.
        before: a split: what the user had had before their last impression in it, and what an
            evaluation of that split leaves out of lists.
    """

    user: str | int | None = None
    history: Sequence[str | int] | None = None
    before: str | None = None


AReader: TypeAlias = Reader | str | int | Sequence[str]
"""A user by id, a history as a list of item ids, or both."""


@dataclass(frozen=True)
class Asked:
    """A reader by numbers.

    Attributes:
        user: number of the user.
        history: ``(n,)`` int64 items that are read, oldest first.
        seen: ``(m,)`` int64 items that lists leave out.
        without_history: nothing is known of the reader, so no model can rank for them.
    """

    user: int
    history: np.ndarray
    seen: np.ndarray
    without_history: bool = False


class Readership:
    """The users of tables and what they have had, read when it is asked for.

    Args:
        tables: the data set.
        config: of the run, which says how the splits follow each other and what lists leave out.
    """

    def __init__(self, tables: Tables, config: RunConfig) -> None:
        self.tables, self.config = tables, config
        self._histories_before: dict[str, RaggedArray] = {}

    @cached_property
    def users(self) -> list[str]:
        """Ids of all users."""
        return self.tables.vocabulary("user_id")

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {user: number for number, user in enumerate(self.users)}

    @cached_property
    def histories(self) -> Ragged:
        """All that every user has had."""
        own = self.config.data.splits

        def in_time(split: str) -> tuple[bool, bool]:  # train, copies of valid, all others
            return split != own.train, not split.startswith(own.valid)

        return whole_histories(self.tables, sorted(self.tables.splits, key=in_time))

    @cached_property
    def popularity(self) -> Tensor:
        """``(items,)`` int64: how many users have had each item, in any split."""
        return torch.bincount(self.histories.values, minlength=self.tables.num_items)

    def without_history(self, users: Sequence[str], before: str | None) -> list[str]:
        """Ids of those users whose lists are the most popular items; see :class:`Asked`."""
        if before is not None or self._reads_profiles:
            return []
        lengths = self.histories.lengths.tolist()
        return [user for user in users if not lengths[self.number(user)]]

    @cached_property
    def _reads_profiles(self) -> bool:
        """Whether the model reads what users say of themselves, which needs no history."""
        return "profile_embeddings" in self.config.model.needs

    def number(self, user: str | int | None) -> int:
        """Number of a user; of somebody new the number of users.

        Raises:
            DataError: there is no such user; the message names the nearest.
        """
        if user is None:
            return len(self.users)
        number = self._numbers.get(str(user))
        if number is None:
            raise unknown_name("user", str(user), self._numbers)
        return number

    def name(self, number: int) -> str | None:
        """Id of a user; None of somebody new."""
        return self.users[number] if number < len(self.users) else None

    def chosen(self, users: Sequence[str | int] | None, before: str | None) -> list[str]:
        """Ids of the users that lists are to be made for; None: all, or all of a split.

        Raises:
            DataError: there is no such user or split.
        """
        if users is not None:
            chosen = [str(user) for user in users]
            for user in chosen:
                self.number(user)
            return chosen
        if before is None:
            return self.users
        self._refuse_unknown(before)
        there = self.tables.scalar(before, "user_id").unique().tolist()  # ascending
        return [self.users[number] for number in there]

    def ask(self, reader: AReader, catalogue: Catalogue) -> Asked:
        """A reader by numbers.

        Raises:
            DataError: there is no such user, item or split.
            ConfigError: neither a user nor a history is given.
        """
        if isinstance(reader, str | int | np.integer):
            reader = Reader(str(reader))
        elif not isinstance(reader, Reader):
            reader = Reader(history=reader)
        if reader.user is None and reader.history is None:
            raise ConfigError("expected a user, or a history of item ids (history=[...])")
        if reader.user is None and reader.before is not None:
            raise ConfigError(f"before: {reader.before!r} needs a user")
        if isinstance(reader.history, str):
            raise ConfigError(f"history: expected a list of item ids, found {reader.history!r}")
        try:
            user = self.number(reader.user)
        except DataError as error:
            raise DataError(f"{error}; a new user has a history, which may be empty") from None
        if reader.before is None or reader.history is not None:
            if reader.history is not None:
                history = catalogue.numbers(reader.history).numpy()
            else:
                history = self.histories.row(user).numpy()
            has_profile = self._reads_profiles and reader.user is not None
            return Asked(user, history, history, not len(history) and not has_profile)
        history = self._before(reader.before).row(user)
        exclude = excluded_by(self.config)
        if exclude == "nothing":
            return Asked(user, history, history[:0])
        if exclude == "history" or reader.before == self.config.data.splits.valid:
            return Asked(user, history, history)
        return Asked(user, history, np.concatenate([history, self._validated.row(user).numpy()]))

    def _before(self, split: str) -> RaggedArray:
        """What every user had had before their last impression of a split."""
        self._refuse_unknown(split)
        if split not in self._histories_before:
            self._histories_before[split] = histories_before(self.tables, split)
        return self._histories_before[split]

    def _refuse_unknown(self, split: str) -> None:
        if split not in self.tables.splits:
            raise DataError(f"before: no split {split!r}; {nearest(split, self.tables.splits)}")

    @cached_property
    def _validated(self) -> Ragged:
        """What every user clicked in the validation split."""
        return clicks_in(self.tables, self.config.data.splits.valid)


def as_readers(asked: Sequence[Asked]) -> Readers:
    """Some of them, as models take them."""
    users = torch.tensor([each.user for each in asked])
    return Readers(users, from_rows([each.history for each in asked], "int64").tensors())


def by_user(users: Sequence[str], vectors: np.ndarray) -> pd.DataFrame:
    """Vectors of users, ``(U, D)``, or of their interests, ``(U, K, D)``: a row each, by ids."""
    index = pd.Index(users, name="user_id")
    if vectors.ndim == 2:
        return pd.DataFrame(vectors, index)
    interests = pd.Index(range(vectors.shape[1]), name="interest")
    rows = pd.MultiIndex.from_product([index, interests])
    return pd.DataFrame(vectors.reshape(-1, vectors.shape[2]), rows)
