"""Ranking all items: where the clicks of every impression stand among everything there is.

Only places are counted: how many items score above a click and how many the same. No list is
sorted, no matrix of all users is held; memory is a page of users times the items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.batch import clicks_of
from legos.data.interactions import Interactions, States, distinct_states
from legos.data.ragged import Ragged, from_owners, join_rows
from legos.data.tables import Tables
from legos.errors import DataError, Diverged
from legos.metrics.ranking import Positives, compare_in_groups
from legos.sharing import ALONE, Sharing
from legos.workplace.workplace import Workplace

# scores held at once; on a CPU more where a page had too few rows for a fast matrix product
_NUMBERS_CPU, _MOST_CPU, _NUMBERS_GPU = 2**22, 2**26, 2**26
_ROWS = 64
_BLOCK = 128  # scores of which only the largest is compared first; see _largest
_FEWER = 4  # at least four times as many blocks as a list has items
Exclude = Literal["history", "history+valid", "nothing"]
NO_ITEM = -1  # where a list ends


class Best(NamedTuple):
    """Lists of items.

    Attributes:
        items: ``(B, M)`` int64 numbers, the best first, of equal ones the lower number first;
            ``NO_ITEM`` where nothing is left.
        scores: ``(B, M)`` float32, -inf where nothing is left.
        proven: ``(B,)`` int64 how many of the first are known to be the best; None: all are.
    """

    items: Tensor
    scores: Tensor
    proven: Tensor | None = None

    def head(self, count: int) -> Best:
        """The first items of each list."""
        proven = None if self.proven is None else self.proven.clamp(max=count)
        return Best(self.items[:, :count], self.scores[:, :count], proven)


def join_lists(parts: Sequence[Best]) -> Best:
    """Lists of some readers, then those of the next; at least one part."""
    proven = [best.proven for best in parts if best.proven is not None]
    return Best(
        torch.cat([best.items for best in parts]),
        torch.cat([best.scores for best in parts]),
        torch.cat(proven) if proven else None,
    )


@dataclass(frozen=True)
class Ranking:
    """What of a split is to be ranked.

    Attributes:
        states: the S distinct pairs of a history and its reader.
        owner: ``(n,)`` int64 state of each impression.
        excluded: distinct items that each state's lists leave out.
        offered: ``(items,)`` bool: what lists are made of.
        targets: distinct clicked items of each impression that its list can hold.
        unlisted: clicks that are excluded.
    """

    states: States
    owner: Tensor
    excluded: Ragged
    offered: Tensor
    targets: Ragged
    unlisted: int

    @property
    def sizes(self) -> Tensor:
        """``(n,)`` int64 items of each impression's list."""
        left_out = self.offered[self.excluded.values]
        counts = torch.bincount(self.excluded.rows[left_out], minlength=len(self.excluded))
        return (self.offered.sum() - counts)[self.owner]


@dataclass(frozen=True)
class Ranked:
    """Where the clicks of a split stand; arrays on the CPU.

    Attributes:
        positives: the clicks that can be listed, by impression.
        clicks: ``(n,)`` their number in each impression.
        sizes: ``(n,)`` items of each impression's list.
        unlisted: clicks that are excluded.
        lists: ``(n, k)`` best items of each impression, -1 where a list ends; None if not asked.
        item_vectors: ``(items, D)`` where the method has such vectors.
        seconds: it took.
    """

    positives: Positives = field(repr=False)
    clicks: np.ndarray = field(repr=False)
    sizes: np.ndarray = field(repr=False)
    unlisted: int
    lists: np.ndarray | None = field(repr=False)
    item_vectors: Tensor | None = field(default=None, repr=False)
    seconds: float = 0.0


def what_to_rank(
    tables: Tables,
    interactions: Interactions,
    *,
    exclude: Exclude = "history",
    valid: Interactions | None = None,
) -> Ranking:
    """Clicks and exclusions of a split.

    Args:
        tables: whose histories are whole; those of ``interactions`` are cut to a length and may
            hold what a model wrote.
        interactions: the split, labelled.
        exclude: what lists leave out. An excluded item that was clicked all the same can be in no
            list: it is counted, and is no target.
        valid: the validation split, for ``history+valid``.

    Raises:
        DataError: the split is not labelled.
    """
    if bool((interactions.labels < 0).any()):
        raise DataError(f"split {interactions.split!r} has no labels and cannot be measured")
    device, items = interactions.users.device, tables.num_items
    states, owner = distinct_states(interactions)
    excluded = _no_lists(states.users.numel(), device)
    if exclude != "nothing":
        read = tables.lists("histories", "items").to(device)
        excluded = Ragged(read.values.long(), read.offsets).select(states.histories)
    if exclude == "history+valid" and valid is not None and valid.split != interactions.split:
        clicks = _clicks_of_users(valid, tables.num_users).select(states.users)
        excluded = join_rows([excluded, clicks])
    keys = torch.unique(excluded.rows * items + excluded.values)  # sorted, each pair once
    excluded = _grouped(keys, items, len(excluded))
    clicked = clicks_of(interactions)
    wanted = torch.unique(clicked.rows * items + clicked.values)
    by_state = owner[wanted // items] * items + wanted % items
    listed = ~torch.isin(by_state, keys)
    return Ranking(
        states=states,
        owner=owner,
        excluded=excluded,
        offered=tables.offered.to(device),
        targets=_grouped(wanted[listed], items, len(interactions)),
        unlisted=int((~listed).sum()),
    )


def excluded_by(config: RunConfig) -> Exclude:
    """What rankings of all items leave out."""
    exclude = config.exp.evaluate.exclude
    return "history+valid" if config.model.leaves_out_valid else exclude


def ranking_of(workplace: Workplace, interactions: Interactions) -> Ranking:
    """What of a split is to be ranked, by the settings of ``exp.evaluate`` and of the model."""
    exclude, valid = excluded_by(workplace.config), None
    if exclude == "history+valid":
        valid = workplace.split(workplace.config.data.splits.valid)
    return what_to_rank(workplace.tables, interactions, exclude=exclude, valid=valid)


@torch.no_grad()
def rank(
    ranking: Ranking,
    score: Callable[[Tensor], Tensor],
    *,
    page_size: int = 512,
    k: int | None = None,
    sharing: Sharing = ALONE,
) -> Ranked:
    """Find the rank of every click.

    Args:
        ranking: what to rank.
        score: states ``(s,)`` int64 -> scores of all items ``(s, items)`` float32; may be written
            to.
        page_size: the most states scored at once; fewer where there are many items.
        k: how many of the best items to list.
        sharing: with which other processes; each gets the whole result.

    Raises:
        Diverged: a score is not finite.
    """
    targets = ranking.targets
    state_of = ranking.owner[targets.rows]
    order = state_of.argsort(stable=True)
    width = min(k or 0, ranking.offered.numel())
    by_state = from_owners(targets.values[order], state_of[order], ranking.states.users.numel())
    found = _rank_states(
        ranking, by_state, score, page_size=page_size, width=width, sharing=sharing
    )
    if int(found.broken):
        raise Diverged(f"{int(found.broken)} scores of split items are not finite")
    values, above, equal = (
        each[order.argsort()].cpu().numpy() for each in (found.values, found.above, found.equal)
    )
    group, offsets = targets.rows.cpu().numpy(), targets.offsets.cpu().numpy()
    return Ranked(
        positives=Positives(
            group, above, equal, *compare_in_groups(values, group, values, offsets)
        ),
        clicks=np.diff(offsets),
        sizes=ranking.sizes.cpu().numpy(),
        unlisted=ranking.unlisted,
        lists=found.lists[ranking.owner].cpu().numpy() if width else None,
    )


class _Places(NamedTuple):
    """Where the P targets of S states stand.

    Attributes:
        values: ``(P,)`` float32 their scores.
        above, equal: ``(P,)`` int64 how many items score more and the same.
        lists: ``(S, width)`` int64 best items.
        broken: ``(1,)`` int64 how many scores are not finite.
    """

    values: Tensor
    above: Tensor
    equal: Tensor
    lists: Tensor
    broken: Tensor


def _rank_states(
    ranking: Ranking,
    targets: Ragged,
    score: Callable[[Tensor], Tensor],
    *,
    page_size: int,
    width: int,
    sharing: Sharing,
) -> _Places:
    """Score states page after page; ``targets`` are their items, S rows."""
    device, items = targets.values.device, ranking.offered.numel()
    count, step = len(targets), max(1, min(page_size, rows_at_once(items, device)))
    values = torch.zeros(targets.values.numel(), device=device)
    above, equal = (torch.zeros_like(targets.values) for _ in range(2))
    lists = torch.zeros(count, width, dtype=torch.int64, device=device)
    broken = torch.zeros(1, dtype=torch.int64, device=device)
    hidden = (~ranking.offered).nonzero()[:, 0]
    state_of, bounds = targets.rows, targets.offsets.tolist()
    for page in sharing.own([slice(begin, begin + step) for begin in range(0, count, step)]):
        begin, end = page.start, min(page.stop, count)
        states = torch.arange(begin, end, device=device)
        scores = score(states)
        broken += _not_finite(scores, ranking.offered)
        scores[:, hidden] = -torch.inf
        excluded = ranking.excluded.select(states)
        scores[excluded.rows, excluded.values] = -torch.inf
        part = slice(bounds[begin], bounds[end])
        rows = state_of[part] - begin
        values[part] = scores[rows, targets.values[part]]
        above[part], equal[part] = _places(scores, rows, values[part])
        if width:
            lists[page] = best_items(scores, width).items
    return _Places(*map(sharing.added, (values, above, equal, lists, broken)))


def rows_at_once(items: int, device: torch.device) -> int:
    """How many rows of scores over so many items fit into memory at once."""
    items = max(1, items)
    if device.type != "cpu":
        return max(1, _NUMBERS_GPU // items)
    return max(1, _NUMBERS_CPU // items, min(_ROWS, _MOST_CPU // items))


def best_items(scores: Tensor, count: int) -> Best:
    """The best items of every row ``(B, J)``; M is ``count``, cut to J."""
    items = _largest(scores, min(count, scores.shape[1]))
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return Best(items.gather(1, order).masked_fill(values == -torch.inf, NO_ITEM), values)


def top_items(scores: Tensor, excluded: Ragged, count: int) -> Best:
    """The best items of every row ``(B, J)`` but for B rows of excluded ones.

    Args:
        scores: written to.
        excluded: item numbers.
        count: items of a list.

    Raises:
        Diverged: a score that is not excluded is NaN.
    """
    scores[excluded.rows, excluded.values.long()] = -torch.inf
    best = best_items(scores, count)
    broken = best.scores.isnan().any(1)  # topk ranks NaN first, so one is in the list
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise Diverged(f"scores of row {row} are not numbers; the model has diverged")
    return best


def _largest(scores: Tensor, count: int) -> Tensor:
    """Where the largest of every row ``(B, J)`` stand, of equal ones the first: ``(B, count)``.

    In ascending order. Of many they are sought among the blocks with the largest maxima: an item of
    the list has fewer than ``count`` items before it, so fewer blocks stand before its own.
    """
    blocks = scores.shape[1] // _BLOCK
    if blocks >= _FEWER * count:
        whole = scores[:, : blocks * _BLOCK].unflatten(1, (blocks, _BLOCK))
        best = _largest(whole.amax(2), count)[:, :, None] * _BLOCK
        inside = torch.arange(_BLOCK, device=scores.device)
        rest = torch.arange(blocks * _BLOCK, scores.shape[1], device=scores.device)
        places = torch.cat([(best + inside).flatten(1), rest.expand(len(scores), -1)], 1)
        return places.gather(1, _largest(scores.gather(1, places), count))
    values, items = scores.topk(count)
    last = values[:, -1:]
    # topk takes any of those that are level with the last
    tied = ((scores >= last).sum(1) > count).nonzero()[:, 0]
    if len(tied):
        some, last = scores[tied], last[tied]
        above, level = ~(some <= last), some == last  # NaN is above
        wanted = count - above.sum(1, keepdim=True)
        chosen = above | (level & (level.cumsum(1) <= wanted))
        items[tied] = chosen.nonzero()[:, 1].view(len(tied), count)
    return items.sort(1).values


def _not_finite(scores: Tensor, offered: Tensor) -> Tensor:
    """How many scores of offered items are not finite: ``(1,)``."""
    if bool(scores.sum().isfinite()):  # one broken score breaks the sum
        return torch.zeros(1, dtype=torch.int64, device=scores.device)
    return (~scores.isfinite() & offered).sum()[None]


def _places(scores: Tensor, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """How many of ``scores[rows]`` are above and how many equal to ``values``: two ``(P,)``."""
    if scores.device.type != "cpu":
        others, mine = scores[rows], values[:, None]
        return (others > mine).sum(1), (others == mine).sum(1)
    # numpy compares and counts a row of a million scores in a quarter of torch's time
    table, found = scores.numpy(), np.empty(scores.shape[1], dtype=bool)
    places = np.zeros((2, rows.numel()), dtype=np.int64)
    for at, (row, value) in enumerate(zip(rows.tolist(), values.numpy(), strict=True)):
        places[0, at] = np.count_nonzero(np.greater(table[row], value, out=found))
        places[1, at] = np.count_nonzero(np.equal(table[row], value, out=found))
    above, equal = torch.from_numpy(places).unbind()
    return above, equal


def _grouped(keys: Tensor, width: int, count: int) -> Ragged:
    """Sorted keys ``owner * width + item`` -> items by owner."""
    return from_owners(keys % width, keys // width, count)


def _no_lists(count: int, device: torch.device) -> Ragged:
    return Ragged(
        torch.zeros(0, dtype=torch.int64, device=device),
        torch.zeros(count + 1, dtype=torch.int64, device=device),
    )


def _clicks_of_users(interactions: Interactions, num_users: int) -> Ragged:
    """Clicked items of every user of a split."""
    clicked = clicks_of(interactions)
    users = clicked.spread(interactions.users)
    order = users.argsort(stable=True)
    return from_owners(clicked.values[order], users[order], num_users)
