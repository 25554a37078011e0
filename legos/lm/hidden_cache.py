"""The hidden-state cache: what a language model computes below a layer, once for every item.

Part ``layer_<k>`` is ``hidden_states[k]``, the input of layer k, at every real token; part
``pooled`` is a vector an item. ``legos/lm/hidden_files.py`` says which files a cache has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges
from legos.errors import DataError
from legos.lm.hidden_files import (
    LABEL,
    USED,
    CachedPart,
    fingerprint,
    finished_parts,
    map_shard,
    read_facts,
    read_head,
    read_manifest,
    shard_path,
    shard_problem,
)
from legos.lm.text_model import DTYPES

_TEXTS = "texts"  # the fact that stands for the token ids
_NAMED = 5  # items that a message names
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class HiddenStates:
    """One finished part of a cache."""

    width: int
    dtype: torch.dtype
    offsets: Tensor  # ``(N + 1,)`` int64; item i owns rows ``offsets[i]`` to ``offsets[i + 1]``
    shards: tuple[Tensor, ...]
    """``(rows of the shard, width)`` each, whole items, memory-mapped or on a GPU."""
    starts: Tensor  # ``(shards,)`` int64 first row of each
    device: torch.device  # where :meth:`select` puts what it finds

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` int64 rows of each item."""
        return self.offsets[1:] - self.offsets[:-1]

    def select(self, items: Tensor) -> Ragged:
        """States ``(P, width)`` of items ``(M,)`` int64, in the order asked, on ``device``."""
        items = items.to(self.offsets.device)
        begins = self.offsets[items]
        rows = aranges(begins, self.offsets[items + 1] - begins)
        return Ragged(self._gather(rows, begins), rows.offsets).to(self.device)

    def to(self, device: torch.device | str) -> HiddenStates:
        """The same states for another device.

        On a GPU they are copied where they fit in half of its free memory; otherwise they stay
        where they are, and :meth:`select` moves what it finds.
        """
        device = torch.device(device)
        if device == self.device:
            return self
        rows = int(self.offsets[-1])
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        if rows * self.width * self.dtype.itemsize > free // 2:
            return replace(self, device=device)
        states = torch.empty(rows, self.width, dtype=self.dtype, device=device)
        for begin, shard in zip(self.starts.tolist(), self.shards, strict=True):
            states[begin : begin + len(shard)] = shard.to(device)
        starts = torch.zeros(1, dtype=torch.int64, device=device)
        offsets = self.offsets.to(device)
        return replace(self, device=device, shards=(states,), starts=starts, offsets=offsets)

    def extended(self, states: Ragged) -> HiddenStates:
        """These and behind them the states of further items: values ``(P, width)``."""
        offsets, first = states.offsets.to(self.offsets), self.offsets[-1:]
        values = states.values.to(self.dtype)
        shards, starts = (*self.shards, values.cpu()), torch.cat([self.starts, first])
        if self.shards and self.shards[0].device.type != "cpu":  # one alone, on a GPU
            values = torch.cat([*self.shards, values.to(self.device)])
            shards, starts = (values,), self.starts
        return replace(
            self,
            shards=shards,
            starts=starts,
            offsets=torch.cat([self.offsets, first + offsets[1:]]),
        )

    def _gather(self, rows: Ragged, begins: Tensor) -> Tensor:
        """Rows of M items, which begin at ``(M,)`` -> ``(P, width)``, shard by shard."""
        position = rows.values
        if not self.shards:
            return torch.empty(0, self.width, dtype=self.dtype)
        if len(self.shards) == 1:  # the only way on a GPU
            return self.shards[0].index_select(0, position)
        shard = torch.searchsorted(self.starts, begins, right=True) - 1  # (M,)
        owner = rows.spread(shard)  # (P,)
        counts = owner.bincount(minlength=len(self.shards))
        numbers: list[int] = counts.nonzero().squeeze(1).tolist()
        if len(numbers) == 1:
            only = numbers[0]
            return self.shards[only].index_select(0, position - self.starts[only])
        states = torch.empty(len(position), self.width, dtype=self.dtype)
        target = states.view(torch.uint8).numpy()  # numpy scatters rows faster, and knows no bf16
        places = owner.argsort(stable=True).split(counts[numbers].tolist()) if numbers else ()
        for number, here in zip(numbers, places, strict=True):
            found = position[here] - self.starts[number]
            target[here.numpy()] = self.shards[number].view(torch.uint8).numpy()[found.numpy()]
        return states


class HiddenCache:
    """The cached states of one language model over one set of texts.

    Args:
        folder: of the caches of this model; this one lies at ``path``, ``folder/<fingerprint>``.
        facts: JSON-able, everything that decides the states; another fact is another cache. Fact
            ``texts`` stands for the token ids, ``data`` is the name that lists show.
        tokens: token ids of the N items, ``(P,)`` int64; with them a cache of other texts is
            told apart item by item.
        names: raw id of every item, for messages; None: their numbers.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        tokens: Ragged | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.facts: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
        self.tokens = tokens
        self.names: Callable[[int], str] = str if names is None else names.__getitem__
        self.path = folder / fingerprint(self.facts)

    def parts(self) -> list[str]:
        """Names of the finished parts."""
        return finished_parts(self.path)

    def why_missing(self, name: str) -> str | None:
        """Why a part cannot be opened, for a person; None: it is there."""
        parts = self.parts()
        if name in parts:
            return None
        if (self.path / name).is_dir():
            return f"{self.path}: {name} is unfinished; rerun the command to resume"
        if parts:
            return f"{self.path}: this cache has only {', '.join(parts)}, not {name}"
        return self._nearest(name)

    def open(self, name: str) -> HiddenStates:
        """Map a finished part after every byte of it was checked.

        DataError: it is not there, or a file is not what was written.
        """
        reason = self.why_missing(name)
        if reason is not None:
            raise DataError(reason)
        layout, texts = read_head(self.path, self.tokens)
        manifest = read_manifest(self.path, name, layout, texts.offsets)
        shards = []
        for number, shard in enumerate(manifest.shards):
            path = shard_path(self.path / name, number)
            problem = shard_problem(path, shard, manifest.width, manifest.dtype)
            if problem is not None:
                raise DataError(f"{problem}; delete {self.path / name} and make it again")
            shards.append(map_shard(path, shard, manifest.width, manifest.dtype))
        with suppress(OSError):  # a cache that others own may be read only
            (self.path / USED).touch()
        starts = list(accumulate((len(shard) for shard in shards), initial=0))[:-1]
        return HiddenStates(
            width=manifest.width,
            dtype=DTYPES[manifest.dtype],
            offsets=texts.offsets if manifest.per == "token" else torch.arange(layout.items + 1),
            shards=tuple(shards),
            starts=torch.tensor(starts, dtype=torch.int64),
            device=torch.device("cpu"),
        )

    def size(self, tokens: Ragged, parts: Sequence[CachedPart], dtype: str) -> int:
        """Bytes of states that the parts have, whether they are there or not."""
        count = len(tokens)
        return sum(part.rows(tokens.offsets, 0, count) * part.row_bytes(dtype) for part in parts)

    def _nearest(self, name: str) -> str:
        """Which facts differ from the cache with the fewest other ones."""
        found: list[tuple[int, bool, Path, dict[str, Any]]] = []
        for path in sorted(self.path.parent.glob("*")):
            with suppress(DataError):  # a damaged neighbour is none
                facts = read_facts(path)
                parts = finished_parts(path)
                if parts:
                    count = len(differing(self.facts, facts))
                    found.append((count, name not in parts, path, facts))
        if not found:
            return f"{self.path.parent}: nothing is cached yet"
        *_, path, facts = min(found, key=lambda entry: entry[:3])
        keys = differing(self.facts, facts)
        if keys == [_TEXTS] and self.tokens is not None:
            with suppress(DataError):
                return self._changed_texts(path, self.tokens)
        shown = ", ".join(_shown_difference(key, self.facts, facts) for key in keys)
        return f"no cache for this: it differs from {path} in {shown}"

    def _changed_texts(self, path: Path, tokens: Ragged) -> str:
        """Which items have other tokens in a cache nearby."""
        _, texts = read_head(path)
        changed = changed_items(tokens, texts)
        here, there = len(tokens), len(texts)
        counts = "" if here == there else f"; {here:,} items here, {there:,} there"
        if not changed:
            what = "the number of items" if counts else f"fact {_TEXTS!r} (not the tokens)"
            return f"no cache for this: {what} differs from {path}{counts}"
        names = ", ".join(repr(self.names(item)) for item in changed[:_NAMED])
        more = f" and {len(changed) - _NAMED:,} more" if len(changed) > _NAMED else ""
        one = len(changed) == 1
        what = f"the {'text' if one else 'texts'} of {'item' if one else 'items'} {names}{more}"
        total = f"({len(changed):,} {'item' if one else 'items'}{counts})"
        return f"no cache for this: {what} {'differs' if one else 'differ'} from {path} {total}"


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The facts that are not the same, or that one of two caches does not have."""
    keys = sorted((ours.keys() | theirs.keys()) - {LABEL})
    return [key for key in keys if key not in ours or key not in theirs or ours[key] != theirs[key]]


def changed_items(ours: Ragged, theirs: Ragged) -> list[int]:
    """Numbers of the items, of those both have, whose token ids differ."""
    count = min(len(ours), len(theirs))
    changed = ours.lengths[:count] != theirs.lengths[:count]
    same_length = (~changed).nonzero().squeeze(1)
    left, right = ours.select(same_length), theirs.select(same_length)
    changed[same_length[left.rows[left.values != right.values]]] = True
    found: list[int] = changed.nonzero().squeeze(1).tolist()
    return found


def _shown_difference(key: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    here, there = (json.dumps(facts.get(key), ensure_ascii=False) for facts in (ours, theirs))
    if max(len(here), len(there)) > _LONGEST_VALUE:
        return key
    return f"{key} ({here} here, {there} there)"
