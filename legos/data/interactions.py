"""The impressions of a split as tensors: users, history states, candidates and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from legos.data.manifest import AGAIN
from legos.data.ragged import Ragged, join_rows
from legos.data.tables import Tables
from legos.errors import DataError, nearest


class GeneratedChoice(Protocol):
    """``data.generated_items``: which items of a model's making users are taken to have read."""

    @property
    def column(self) -> str: ...
    @property
    def position(self) -> Literal["end", "start"]: ...


@dataclass(frozen=True)
class Interactions:
    """One split: a row an impression.

    Attributes:
        split: its name.
        users: ``(n,)`` int64.
        history_rows: ``(n,)`` int64 row of ``histories`` that held at the impression.
        histories: every distinct history state, oldest first, cut to the newest
            ``history_length`` items.
        history_users: ``(states,)`` int64 user of each state.
        history_clicks: ``(states,)`` int64 clicks of each state before the cut, without what a
            model wrote.
        candidates: the shown items of each impression; values ``(M,)`` int64.
        labels: ``(M,)`` int8: 1 click, 0 no click, -1 unlabelled.
        impression_vocabulary: name of the vocabulary of the ids that the raw data give.
        impression_ids: ``(n,)`` int64 into that vocabulary.
    """

    split: str
    users: Tensor
    history_rows: Tensor
    histories: Ragged
    history_users: Tensor
    history_clicks: Tensor
    candidates: Ragged
    labels: Tensor
    impression_vocabulary: str
    impression_ids: Tensor

    def __len__(self) -> int:
        return self.users.numel()

    @property
    def history_length(self) -> int:
        """Length of the longest history."""
        return int(self.histories.lengths.max()) if len(self.histories) else 0

    @classmethod
    def from_tables(
        cls,
        tables: Tables,
        split: str,
        *,
        history_length: int,
        generated: GeneratedChoice | None = None,
    ) -> Interactions:
        """Read a split; histories keep their newest ``history_length`` items.

        Args:
            tables: the data set.
            split: its name.
            history_length: of what is kept, generated items included.
            generated: items that a model wrote, to be put into their users' histories.

        Raises:
            DataError: there is no such split, no such generated items, ids lie outside the tables,
                or an item that a model wrote is a candidate.
        """
        if split not in tables.splits:
            raise DataError(f"{tables.folder}: no split {split!r}; {nearest(split, tables.splits)}")
        candidates = tables.lists(split, "candidates")
        histories = tables.lists("histories", "items")
        described = tables.column(split, "impression_id")
        users, states = tables.scalar(split, "user_id"), tables.scalar(split, "history")
        labels = tables.lists(split, "labels")
        _check(tables, split, states, histories, candidates, labels)
        owners = tables.scalar("histories", "user_id").long()
        read = Ragged(histories.values.long(), histories.offsets)
        return cls(
            split=split,
            users=users.long(),
            history_rows=states.long(),
            histories=with_generated(tables, read, owners, generated).tail(history_length),
            history_users=owners,
            history_clicks=histories.lengths,
            candidates=Ragged(candidates.values.long(), candidates.offsets),
            labels=labels.values,
            impression_vocabulary=described["vocabulary"],
            impression_ids=tables.scalar(split, "impression_id").long(),
        )

    def to(self, device: torch.device | str) -> Interactions:
        """The same split on another device."""
        return replace(
            self,
            users=self.users.to(device),
            history_rows=self.history_rows.to(device),
            histories=self.histories.to(device),
            history_users=self.history_users.to(device),
            history_clicks=self.history_clicks.to(device),
            candidates=self.candidates.to(device),
            labels=self.labels.to(device),
            impression_ids=self.impression_ids.to(device),
        )

    def some(self, count: int, *, seed: int) -> Interactions:
        """At most ``count`` impressions, drawn by the seed, in their order."""
        if count >= len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(len(self), generator=generator)[:count].sort().values
        return self.select(kept.to(self.users.device))

    def select(self, impressions: Tensor) -> Interactions:
        """The impressions at these places ``(n,)``, in their order; histories stay as they are."""
        return replace(
            self,
            users=self.users[impressions],
            history_rows=self.history_rows[impressions],
            candidates=self.candidates.select(impressions),
            labels=Ragged(self.labels, self.candidates.offsets).select(impressions).values,
            impression_ids=self.impression_ids[impressions],
        )


def with_generated(
    tables: Tables, histories: Ragged, owners: Tensor, choice: GeneratedChoice | None
) -> Ragged:
    """Every history state of a user with what a model wrote for that user.

    Args:
        owners: user of each state; an unknown user, for whom nothing was written, has the
            number of users as its number.

    Raises:
        DataError: the column holds no items.
    """
    if choice is None:
        return histories
    if tables.column("users", choice.column)["vocabulary"] != "item_id":
        raise DataError(f"{tables.folder}: users.{choice.column} holds no items")
    every = tables.lists("users", choice.column)
    written = Ragged(every.values, torch.cat([every.offsets, every.offsets[-1:]])).select(owners)
    return join_rows([histories, written] if choice.position == "end" else [written, histories])


def _check(
    tables: Tables,
    split: str,
    states: Tensor,
    histories: Ragged,
    candidates: Ragged,
    labels: Ragged,
) -> None:
    """Refuse history rows outside the tables, odd labels, and offered items of a model."""
    if states.numel() and not 0 <= int(states.min()) <= int(states.max()) < len(histories):
        raise DataError(
            f"{tables.folder}: {split}.history holds rows outside 0 to {len(histories) - 1}; "
            f"{AGAIN}"
        )
    if not torch.equal(labels.offsets, candidates.offsets):
        raise DataError(
            f"{tables.folder}: {split}: {labels.values.numel()} labels for "
            f"{candidates.values.numel()} candidates, or a different number per impression; {AGAIN}"
        )
    values = labels.values
    if values.numel() and not -1 <= int(values.min()) <= int(values.max()) <= 1:
        raise DataError(
            f"{tables.folder}: {split}.labels holds values other than -1, 0 and 1; {AGAIN}"
        )
    offered = tables.offered
    if not offered.all() and not offered[candidates.values.long()].all():
        raise DataError(f"{tables.folder}: {split}: a generated item is a candidate; {AGAIN}")


@dataclass(frozen=True)
class States:
    """Distinct pairs of a history and its reader.

    Attributes:
        histories: ``(S,)`` int64 row of ``histories``.
        users: ``(S,)`` int64.
    """

    histories: Tensor
    users: Tensor


def distinct_states(interactions: Interactions) -> tuple[States, Tensor]:
    """The states of a split and, for each impression, which it has: ``(n,)`` int64."""
    count = int(interactions.users.max()) + 1 if len(interactions) else 1
    pairs, owner = torch.unique(
        interactions.history_rows * count + interactions.users, return_inverse=True
    )
    return States(pairs // count, pairs % count), owner
