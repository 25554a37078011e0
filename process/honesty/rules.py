"""What is known of interactions without content, and how well it ranks the clicks of a split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from legos.data.honesty import RuleResult, SplitHonesty
from legos.data.ragged import RaggedArray, from_owners
from legos.metrics.ranking import grouped_metrics
from legos.scratch import pages, release
from process.honesty.evidence import Evidence, SplitView
from process.raw import TRAIN
from process.ties import contains, ranks, sorted_keys

MOST_MEASURED = 20_000  # impressions of a split: the standard error of GAUC is .004 at most
_BLOCK = 1 << 14  # impressions read at once
FIRST = 10  # hits among the first ten


@dataclass(frozen=True)
class _Order:
    """Items after the last one read rank first, nearest first; all others tie.

    Attributes:
        place: ``(N,)`` int64 place of every item.
    """

    place: np.ndarray


@dataclass(frozen=True)
class _Score:
    """Items by a number, the largest first.

    Attributes:
        score: ``(1, N)`` float64, or ``(2, N)``: a row for each half of the impressions.
    """

    score: np.ndarray


@dataclass(frozen=True)
class _Pairs:
    """Items that a split never showed the user without a click come first."""

    shown: SplitView


Rule = _Order | _Score | _Pairs


def measure_splits(evidence: Evidence, seed: int) -> dict[str, SplitHonesty]:
    """Every split but train; clicks that several splits ask for are ranked among all items once."""
    found: dict[str, SplitHonesty] = {}
    ranked: set[str] = set()
    of_train = dict(_of_orders(evidence)) | dict(_of_train(evidence))
    for name in evidence.splits:
        if name == TRAIN:
            continue
        split = evidence.split(name)
        question = _question(split)
        everything = question not in ranked and _rank_all_items(split, evidence.num_items)
        if everything:
            ranked.add(question)
        found[name] = _measure_split(
            split, evidence.num_items, of_train, seed, everything=everything
        )
    return found


def _question(split: SplitView) -> str:
    """Hash of users, histories and clicks, whatever negatives stand beside them."""
    clicks = split.clicks
    rows = np.stack([split.user[clicks.rows], split.history[clicks.rows], clicks.values])
    return hashlib.sha256(np.ascontiguousarray(rows, dtype=np.int64).tobytes()).hexdigest()


def _measure_split(
    whole: SplitView,
    items: int,
    rules: Mapping[str, Rule],
    seed: int,
    *,
    everything: bool,
) -> SplitHonesty:
    """One split.

    Args:
        whole: the split.
        items: number of items.
        rules: those that every split shares.
        seed: of the sample and the halves.
        everything: also rank among all items.
    """
    split = whole
    generator = np.random.default_rng(seed)
    if len(whole) > MOST_MEASURED:
        split = whole.take(np.sort(generator.permutation(len(whole))[:MOST_MEASURED]))
    half = generator.integers(0, 2, len(split))
    known, repeated = _repetitions(split, items)
    read = _distinct_histories(split, items) if everything else None
    results: dict[str, RuleResult] = {}
    for name, rule in {**rules, "popularity_test": _of_other_half(split, half, items)}.items():
        result = _measure(rule, split, half, items, read)
        if result != RuleResult():
            results[name] = result
    chance = None
    if everything:
        room = items - np.diff(split.histories.offsets)[split.history]
        chance = round(float(np.minimum(FIRST / np.maximum(room, 1), 1).mean()), 4)
    return SplitHonesty(
        impressions=len(whole),
        measured=len(split),
        known_clicks=known,
        repeated_candidates=repeated,
        chance_at_10=chance,
        rules=results,
    )


def _of_orders(evidence: Evidence) -> Iterator[tuple[str, Rule]]:
    by_id, by_line = (
        place_by_id(list(evidence.vocabularies["item_id"])),
        np.arange(evidence.num_items),
    )
    yield "next_id", _Order(by_id)
    if not np.array_equal(by_id, by_line):
        yield "next_line", _Order(by_line)


def _of_other_half(split: SplitView, half: np.ndarray, items: int) -> Rule:
    """Clicks of the split, for each half of the impressions counted on the other one."""
    clicks = split.clicks
    counts = [
        np.bincount(clicks.values[half[clicks.rows] != own], minlength=items) for own in (0, 1)
    ]
    return _Score(np.stack(counts).astype(np.float64))


def _of_train(evidence: Evidence) -> Iterator[tuple[str, Rule]]:
    train, items = evidence.train, evidence.num_items
    if train is None:
        return
    clicks = train.clicks.values
    counts = np.bincount(clicks, minlength=items)
    read = counts > 0
    for states in pages(np.unique(train.history)):
        read[train.histories.select(states).values] = True
        release(train.histories.values)
    yield "popularity_train", _Score(counts[None].astype(np.float64))
    yield "unseen", _Score((~read)[None].astype(np.float64))
    known = train.time[train.time >= 0]
    if len(known) and known.min() < known.max():
        latest, first = _first_and_latest(train, items)
        yield "most_recent", _Score(latest[None])
        yield "newest", _Score(np.where(np.isinf(first), float(known.max()) + 1, first)[None])
    if (train.labels == 0).any():
        yield "never_negative", _Pairs(train)


def _first_and_latest(train: SplitView, items: int) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` float64: the latest click on every item, -1 if none; when it first appears, or inf.

    In blocks of impressions, so that memory does not grow with the split.
    """
    latest, first = np.full(items, -1.0), np.full(items, np.inf)
    timed = np.flatnonzero(train.time >= 0)
    for begin in range(0, len(timed), _BLOCK):
        part = train.take(timed[begin : begin + _BLOCK])
        shown, clicked = part.candidates.values, part.labels == 1
        dates = part.time[part.candidates.rows].astype(np.float64)
        np.minimum.at(first, shown, dates)
        np.maximum.at(latest, shown[clicked], dates[clicked])
    return latest, first


def place_by_id(ids: list[str]) -> np.ndarray:
    """``(N,)`` int64 place of every item by its raw id: as numbers where all are, else as text."""
    if all(name.isascii() and name.isdigit() and len(name) <= 18 for name in ids):
        order = sorted(range(len(ids)), key=lambda row: int(ids[row]))
    else:
        order = sorted(range(len(ids)), key=ids.__getitem__)
    return ranks(np.array(order, dtype=np.int64)).astype(np.int64)


def _repetitions(split: SplitView, items: int) -> tuple[float, float]:
    """Percent of clicks on items of the history, and of impressions that list an item twice."""
    clicks = split.clicks
    past = split.histories.select(split.history[clicks.rows])
    same = past.values == clicks.values[past.rows]
    known = np.bincount(past.rows[same], minlength=len(clicks.values)) > 0
    different = _distinct(split.candidates, items).lengths
    return percent(known), percent(different < split.candidates.lengths)


def percent(mask: np.ndarray) -> float:
    """Share of True in percent, 0 of nothing."""
    return round(100 * float(mask.mean()), 2) if len(mask) else 0.0


def _rank_all_items(split: SplitView, items: int) -> bool:
    """Whether a split asks for clicks among all items: one a user (leave-last-out), or no others.

    A log of shown lists does not: what was not shown could not be clicked.
    """
    if (split.labels < 0).any() or not len(split) or items < 2:
        return False
    one = (split.clicks.lengths == 1).all() and len(np.unique(split.user)) == len(split)
    return bool(one or (split.labels == 1).all())


def _measure(
    rule: Rule, split: SplitView, half: np.ndarray, items: int, read: RaggedArray | None
) -> RuleResult:
    """One rule, with its rank among all items where the distinct items ``read`` are given."""
    gauc = error = None
    if isinstance(rule, _Order):
        rows = np.flatnonzero(split.last_read() >= 0)
        split, half = split.take(rows), half[rows]
        read = None if read is None else read.select(rows)
    if len(split) and (split.labels == 0).any() and (split.labels >= 0).all():
        scores = _scores(rule, split, half, items)
        found = grouped_metrics(scores, split.labels, split.candidates.offsets, ["GAUC"])
        groups = found.per_group["GAUC"]
        groups = groups[~np.isnan(groups)]
        if len(groups):
            gauc = round(float(groups.mean()), 4)
            error = round(float(groups.std()) / math.sqrt(len(groups)), 4)
    if read is None or not len(split) or isinstance(rule, _Pairs):
        return RuleResult(gauc=gauc, error=error)
    area, hits = _among_all(rule, split, half, items, read)
    return RuleResult(gauc=gauc, error=error, all_items=area, hits_at_10=hits)


def _scores(rule: Rule, split: SplitView, half: np.ndarray, items: int) -> np.ndarray:
    """``(M,)`` float64 scores of the candidates."""
    shown, rows = split.candidates.values, split.candidates.rows
    if isinstance(rule, _Order):
        ahead = rule.place[shown] - rule.place[split.last_read()[rows]]
        return np.where(ahead > 0, -ahead, -2.0 * items)
    if isinstance(rule, _Score):
        scores: np.ndarray = _of_halves(rule, half[rows], shown)
        return scores
    last = int(max(split.user.max(), rule.shown.user.max()))
    asked = np.zeros(last + 1, dtype=bool)
    asked[split.user] = True
    theirs = np.flatnonzero(asked[rule.shown.user])
    pairs = [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(theirs), _BLOCK):
        train = rule.shown.take(theirs[begin : begin + _BLOCK])
        shown_to = train.user[train.candidates.rows] * items + train.candidates.values
        pairs.append(shown_to[train.labels == 0])
    keys = sorted_keys(np.concatenate(pairs))
    return -contains(keys, split.user[rows] * items + shown).astype(np.float64)


def _of_halves(rule: _Score, half: np.ndarray, items: np.ndarray) -> np.ndarray:
    scores: np.ndarray = rule.score[half % len(rule.score), items]
    return scores


def _among_all(
    rule: _Order | _Score, split: SplitView, half: np.ndarray, items: int, read: RaggedArray
) -> tuple[float, float]:
    """Mean AUC of the clicks among all items but the history, and the share of hits at ten."""
    clicks = split.clicks
    rows, targets = clicks.rows, clicks.values
    above = np.zeros(len(targets))
    level = np.zeros(len(targets))
    # (click, item of its history) pairs, without the click itself
    of_click = read.select(rows)
    others = of_click.keep(of_click.values != targets[of_click.rows])
    own, past = others.rows, others.values
    if isinstance(rule, _Order):
        last = rule.place[split.last_read()][rows]
        place = rule.place[targets]
        ahead = place > last
        above = np.where(ahead, place - last - 1, items - 1 - last).astype(np.float64)
        level = np.where(ahead, 0, last).astype(np.float64)
        gone = rule.place[past]
        after = gone > last[own]
        between = after & (~ahead[own] | (gone < place[own]))
        above -= np.bincount(own[between], minlength=len(targets))
        level -= np.bincount(own[~after & ~ahead[own]], minlength=len(targets))
    else:
        mine = _of_halves(rule, half[rows], targets)
        for part, numbers in enumerate(rule.score):
            chosen = half[rows] % len(rule.score) == part
            ordered = np.sort(numbers)
            upto = np.searchsorted(ordered, mine[chosen], side="right")
            above[chosen] = items - upto
            level[chosen] = upto - np.searchsorted(ordered, mine[chosen], side="left") - 1
        theirs = _of_halves(rule, half[rows][own], past)
        above -= np.bincount(own[theirs > mine[own]], minlength=len(targets))
        level -= np.bincount(own[theirs == mine[own]], minlength=len(targets))
    rivals = np.maximum(items - 1 - others.lengths, 1)
    area = 1 - (above + level / 2) / rivals
    hits = np.clip((FIRST - above) / (level + 1), 0, 1)
    return round(float(area.mean()), 4), round(float(hits.mean()), 4)


def _distinct_histories(split: SplitView, items: int) -> RaggedArray:
    """The items of each impression's history, every one once."""
    used, own = np.unique(split.history, return_inverse=True)
    return _distinct(split.histories.select(used), items).select(own)


def _distinct(lists: RaggedArray, items: int) -> RaggedArray:
    """The items of each row, every one once, ascending."""
    keys = sorted_keys(lists.rows * items + lists.values)
    return from_owners(keys % items, keys // items, len(lists))
