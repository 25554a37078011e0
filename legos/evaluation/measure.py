"""From scores to metrics: overall, of kinds of items and users, beyond accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from legos.config.exp_schema import ExpConfig
from legos.config.schema import RunConfig
from legos.data.interactions import Interactions, States, distinct_states
from legos.data.ragged import offsets_of
from legos.data.tables import Tables
from legos.errors import DataError, nearest
from legos.evaluation.rank import Ranked, rank, ranking_of
from legos.metrics import GroupedMetrics, grouped_metrics, parse_metric
from legos.metrics.beyond import (
    ALL,
    beyond_accuracy,
    beyond_accuracy_of_lists,
    item_subsets,
    user_subsets,
)
from legos.metrics.full_ranking import counted_metrics
from legos.metrics.names import GLOBAL
from legos.metrics.ranking import Positives
from legos.sharing import Sharing
from legos.workplace.workplace import Workplace


@dataclass(frozen=True)
class Scored:
    """A split with its scores.

    Attributes:
        scores: ``(M,)`` float32, aligned with ``candidates.values``.
        item_vectors: ``(items, D)`` where the method has such vectors.
        seconds: it took.
    """

    scores: np.ndarray = field(repr=False)
    item_vectors: Tensor | None = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class SplitResult:
    """What a method reaches on one split.

    Attributes:
        rows: metrics by subset: "all", then "cold items", "active users", ...
        counts: number of groups, rows, one-class and empty groups of each subset.
        groups: per metric its value in every group of "all", NaN where undefined.
        scores: ``(M,)`` float32 of the candidates shown; None where all items are ranked.
        seconds: to score and to measure.
    """

    rows: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    groups: dict[str, np.ndarray] = field(repr=False)
    scores: np.ndarray | None = field(repr=False)
    seconds: float

    def summary(self) -> dict[str, Any]:
        """What ``results.json`` keeps; a metric that is undefined on a subset is left out."""
        rows = {
            subset: {name: value for name, value in values.items() if math.isfinite(value)}
            for subset, values in self.rows.items()
        }
        return {"rows": rows, "counts": self.counts, "seconds": round(self.seconds, 3)}


def measure(
    workplace: Workplace, found: Scored | Ranked, interactions: Interactions, *, thorough: bool
) -> SplitResult:
    """Every metric of ``exp.evaluate.metrics`` and the one that early stopping watches.

    Where all items are ranked, that one alone unless the measurement is thorough.

    Args:
        workplace: configuration and what training has seen.
        found: scores of the candidates shown, or where the split's clicks stand among all items.
        interactions: the split.
        thorough: rows of kinds of items and users and the metrics beyond accuracy, too.

    Raises:
        Diverged: a score is not finite.
    """
    begin = time.perf_counter()
    config = workplace.config.exp
    is_ranked = isinstance(found, Ranked)
    asked = config.evaluate.metrics if thorough or not is_ranked else ()
    names = list(dict.fromkeys([*asked, config.train.metric]))
    labels = interactions.labels.cpu().numpy()
    offsets = interactions.candidates.offsets.cpu().numpy()
    by_user = workplace.config.data.group_by == "user"
    users = interactions.users.cpu().numpy() if by_user else None

    def of(impressions: np.ndarray) -> GroupedMetrics:
        """Metrics of some impressions, ``(n,)`` bool."""
        groups = None if users is None else users[impressions]
        if isinstance(found, Ranked):
            kept = impressions[found.positives.group]
            number = np.cumsum(impressions) - 1
            positives = Positives(*(each[kept] for each in vars(found.positives).values()))
            positives = replace(positives, group=number[positives.group])
            clicks, sizes = found.clicks[impressions], found.sizes[impressions]
            return counted_metrics(positives, clicks, sizes, names, groups=groups)
        sizes = np.diff(offsets)
        kept = np.repeat(impressions, sizes)
        within = offsets_of(sizes[impressions])
        return grouped_metrics(found.scores[kept], labels[kept], within, names, groups=groups)

    whole = of(np.ones(len(interactions), dtype=bool))
    rows, counts = {ALL: dict(whole.values)}, {ALL: dict(whole.counts)}
    if thorough and config.evaluate.cold_warm:
        for subset, impressions in _subsets(workplace, interactions, labels, offsets).items():
            part = of(impressions)
            rows[subset], counts[subset] = dict(part.values), dict(part.counts)
    scores = None
    if isinstance(found, Ranked):
        counts[ALL]["unlisted_clicks"] = found.unlisted
    else:
        scores = found.scores
    k = config.evaluate.beyond_accuracy_k
    if thorough and k:
        rows[ALL] |= _beyond_accuracy(workplace, found, interactions, k)
    seconds = found.seconds + time.perf_counter() - begin
    return SplitResult(rows, counts, dict(whole.per_group), scores, seconds)


def _beyond_accuracy(
    workplace: Workplace, found: Scored | Ranked, interactions: Interactions, k: int
) -> dict[str, float]:
    catalogue = known_catalogue(workplace, found.item_vectors)
    if isinstance(found, Scored):
        items = interactions.candidates.values.cpu().numpy()
        offsets = interactions.candidates.offsets.cpu().numpy()
        return beyond_accuracy(found.scores, items, offsets, k=k, **catalogue)
    if found.lists is None:
        return {}
    listed = found.lists >= 0
    owners = np.nonzero(listed)[0]
    return beyond_accuracy_of_lists(
        found.lists[listed], owners, len(listed), k=found.lists.shape[1], **catalogue
    )


def _subsets(
    workplace: Workplace, interactions: Interactions, labels: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """Impressions ``(n,)`` bool of each subset that is neither empty nor all of them."""
    known, items = workplace.known, interactions.candidates.values
    clicks = interactions.history_clicks[interactions.history_rows]
    found = {
        **item_subsets(labels, offsets, ~known.items.cpu()[items.cpu()].numpy()),
        **user_subsets(
            clicks.cpu().numpy(),
            known.users.cpu()[interactions.users.cpu()].numpy(),
            cold_user_clicks=workplace.config.exp.evaluate.cold_user_clicks,
        ),
    }
    users = interactions.users.cpu()
    for column in workplace.config.exp.evaluate.user_columns:
        filled = workplace.tables.lists("users", column).lengths > 0
        known_user = users < filled.numel()
        found[f"users with {column.split('@')[0]}"] = (
            filled[users.where(known_user, 0)] & known_user
        ).numpy()
    return {name: mask for name, mask in found.items() if mask.any() and not mask.all()}


Scorer = Callable[[States], Callable[[Tensor], Tensor]]
"""What scores all items: states -> a function of their numbers ``(s,)``, fp32 ``(s, items)``."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode for the time of a block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def measure_scorer(
    workplace: Workplace,
    scorer: Scorer,
    interactions: Interactions,
    *,
    thorough: bool,
    item_vectors: Tensor | None = None,
) -> SplitResult | None:
    """Score and measure a split, as ``exp.evaluate`` says; the result in the main process.

    Args:
        workplace: configuration and what training has seen.
        scorer: gives scores of all items, ranked among all or among those shown.
        interactions: the split, on the accelerator's device.
        thorough: rows of kinds of items and users and the metrics beyond accuracy, too.
        item_vectors: ``(items, D)`` where the method has such vectors.

    Raises:
        Diverged: a score is not finite.
    """
    config, begin = workplace.config.exp.evaluate, time.perf_counter()
    is_main, sharing = workplace.accelerator.is_main_process, workplace.sharing
    if config.ranking == "all":
        ranking = ranking_of(workplace, interactions)
        ranked = rank(
            ranking,
            scorer(ranking.states),
            page_size=config.page_size,
            k=config.beyond_accuracy_k if thorough else None,
            sharing=sharing,
        )
        seconds = time.perf_counter() - begin
        found: Scored | Ranked = replace(ranked, item_vectors=item_vectors, seconds=seconds)
    else:
        scores = _shown_scores(scorer, interactions, config.page_size, sharing).cpu().numpy()
        found = Scored(scores, item_vectors, time.perf_counter() - begin)
    return measure(workplace, found, interactions, thorough=thorough) if is_main else None


def _shown_scores(
    scorer: Scorer, interactions: Interactions, page_size: int, sharing: Sharing
) -> Tensor:
    """Scores of the candidates shown: ``(M,)`` fp32, aligned with ``candidates.values``."""
    states, owner = distinct_states(interactions)
    score = scorer(states)
    of_state = owner[interactions.candidates.rows]  # (M,)
    order = of_state.argsort(stable=True)
    of_state, items = of_state[order], interactions.candidates.values[order]
    found = torch.zeros(len(order), device=items.device)
    count = len(states.users)
    for begin in sharing.own(range(0, count, page_size)):
        end = min(begin + page_size, count)
        here = (of_state >= begin) & (of_state < end)
        scores = score(torch.arange(begin, end, device=items.device))
        found[here] = scores[of_state[here] - begin, items[here]]
    found = sharing.added(found)
    return torch.empty_like(found).index_copy(0, order, found)


def longest_list(exp: ExpConfig) -> int:
    """Items of a test's lists: as many as its metrics ask for."""
    names = [*exp.evaluate.metrics, exp.train.metric]
    cut_offs = [parse_metric(name).k or 0 for name in names]
    return max(1, exp.evaluate.beyond_accuracy_k or 0, *cut_offs)


class _Catalogue(TypedDict):
    popularity: np.ndarray
    num_users: int
    catalogue: int
    item_vectors: np.ndarray | None


def known_catalogue(workplace: Workplace, vectors: Tensor | None) -> _Catalogue:
    """What the metrics beyond accuracy know of items and users."""
    return {
        "popularity": workplace.known.popularity.cpu().numpy(),
        "num_users": int(workplace.known.users.sum()),
        "catalogue": int(workplace.tables.offered.sum()),
        "item_vectors": None if vectors is None else vectors.cpu().numpy(),
    }


_TRAINS, _TESTS = ("train", "train_test"), ("test", "train_test")


@dataclass(frozen=True)
class _Part:
    """A split, the key that names it, and the metrics that are to be defined on it."""

    key: str
    split: str
    metrics: Sequence[str] = ()


def refuse_unmeasurable(config: RunConfig, tables: Tables) -> None:
    """Refuse splits that the run could not train on or measure.

    Args:
        config: of a run that trains, tests or both.
        tables: its data set.

    Raises:
        DataError: all splits that are empty, have no labels, no click, or nothing that a metric is
            defined on; each with its key and its name.
    """
    problems = [
        f"{part.key}: split {part.split!r} {problem}"
        for part in _parts(config)
        for problem in _problems(config, tables, part)
    ]
    if problems:
        raise DataError("\n  ".join([f"{tables.folder}: nothing was started:", *problems]))


def _parts(config: RunConfig) -> Iterator[_Part]:
    data, exp = config.data, config.exp
    if exp.mode in _TRAINS:
        yield _Part("data.splits.train", data.splits.train)
        yield _Part("data.splits.valid", data.splits.valid, (exp.train.metric,))
    if exp.mode in _TESTS:
        for number, split in enumerate(data.splits.test):
            yield _Part(f"data.splits.test.{number}", split, exp.evaluate.metrics)


def _problems(config: RunConfig, tables: Tables, part: _Part) -> Iterator[str]:
    if part.split not in tables.splits:
        yield f"does not exist; {nearest(part.split, tables.splits)}"
        return
    labels = tables.lists(part.split, "labels")
    values, offsets = labels.values.numpy(), labels.offsets.numpy()
    if len(offsets) < 2 or not len(values):
        yield "is empty: it has no impression with a candidate"
        return
    unlabelled = int(np.count_nonzero((values != 0) & (values != 1)))
    if unlabelled:
        share = "no labels" if unlabelled == len(values) else f"{unlabelled:,} rows without labels"
        hint = (
            "leave it out of data.splits.test, or score it with --impressions FOLDER"
            if ".test." in part.key
            else "name another split"
        )
        yield f"has {share} and cannot be measured; {hint}"
        return
    clicked = values == 1
    if not clicked.any():
        yield f"has no click among its {len(values):,} candidates"
        return
    undefined = [name for name in part.metrics if not _defined(config, tables, part, name, clicked)]
    if undefined:
        where = "in the whole split" if set(undefined) <= set(GLOBAL) else _group(config)
        yield (
            f"has no click beside a candidate without one {where}, so {', '.join(undefined)} "
            f"{'is' if len(undefined) == 1 else 'are'} not defined; "
            f"take HR@k, MRR or nDCG@k ({_asked_in(part)}), or rank all items "
            "(exp.evaluate.ranking all)"
        )


def _defined(
    config: RunConfig, tables: Tables, part: _Part, name: str, clicked: np.ndarray
) -> bool:
    """Whether a metric has a value on a split with clicks."""
    metric = parse_metric(name)
    kinds = {part.kind for part in metric.parts or (metric,)}
    if not kinds & {"AUC", "GAUC"} or config.exp.evaluate.ranking == "all":
        return True
    if "AUC" in kinds:
        return not bool(clicked.all())
    owners = tables.lists(part.split, "labels").rows.numpy()
    if config.data.group_by == "user":
        owners = tables.scalar(part.split, "user_id").numpy().astype(np.int64)[owners]
    sizes = np.bincount(owners)
    clicks = np.bincount(owners, weights=clicked)
    return bool(((clicks > 0) & (clicks < sizes)).any())


def _group(config: RunConfig) -> str:
    return "of the same user" if config.data.group_by == "user" else "in the same impression"


def _asked_in(part: _Part) -> str:
    return "exp.evaluate.metrics" if ".test." in part.key else "exp.train.metric"
