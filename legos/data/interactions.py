"""The impressions of one split as columnar tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.errors import DataError, nearest


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
        history_clicks: ``(states,)`` int64 clicks of each state before the cut, without items
            that a model wrote.
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
    def from_tables(cls, tables: Tables, split: str, *, history_length: int) -> Interactions:
        """Read a split; histories keep their newest ``history_length`` items.

        Raises:
            DataError: there is no such split or ids lie outside the tables.
        """
        if split not in tables.splits:
            raise DataError(f"{tables.folder}: no split {split!r}; {nearest(split, tables.splits)}")
        candidates = tables.lists(split, "candidates")
        whole_histories = tables.lists("histories", "items")
        histories = whole_histories.tail(history_length)
        described = tables.column(split, "impression_id")
        users, states = tables.scalar(split, "user_id"), tables.scalar(split, "history")
        labels = tables.lists(split, "labels").values
        for name, values, limit in (
            ("candidates", candidates.values, tables.num_items),
            ("histories.items", histories.values, tables.num_items),
            ("user_id", users, tables.num_users),
            ("history", states, len(histories)),
        ):
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < limit:
                raise DataError(
                    f"{tables.folder}: {split}: {name} holds rows outside 0 to {limit - 1}; make "
                    "the tables again"
                )
        if labels.numel() != candidates.values.numel():
            raise DataError(
                f"{tables.folder}: {split}: {labels.numel()} labels for "
                f"{candidates.values.numel()} candidates; make the tables again"
            )
        return cls(
            split=split,
            users=users.long(),
            history_rows=states.long(),
            histories=Ragged(histories.values.long(), histories.offsets),
            history_users=tables.scalar("histories", "user_id").long(),
            history_clicks=whole_histories.lengths,
            candidates=Ragged(candidates.values.long(), candidates.offsets),
            labels=labels,
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
