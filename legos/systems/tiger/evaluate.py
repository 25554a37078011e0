"""Evaluation of TIGER: proven lists over all items, or log-probabilities of shown candidates."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from legos.data.interactions import Interactions, distinct_states
from legos.data.ragged import Ragged, from_lengths, padded_aranges
from legos.errors import ConfigError
from legos.evaluation.measure import Scored, SplitResult, longest_list, measure
from legos.evaluation.rank import NO_ITEM, Ranked, ranking_of
from legos.metrics import parse_metric
from legos.metrics.full_ranking import listed
from legos.systems.tiger.writer import Histories, Writer
from legos.workplace.workplace import Workplace

_LIST_METRICS = ("HR", "Recall", "nDCG")
_PAGE = 1024  # states of a page that processes share


def refuse_unlisted(workplace: Workplace) -> None:
    """Raise ConfigError for metrics that lists of the best items do not have."""
    exp = workplace.config.exp
    if exp.evaluate.ranking != "all":
        return
    asked = [("exp.evaluate.metrics", name) for name in exp.evaluate.metrics]
    for key, name in [*asked, ("exp.train.metric", exp.train.metric)]:
        metric = parse_metric(name)
        if metric.kind not in _LIST_METRICS or metric.k is None:
            raise ConfigError(
                f"{key}: {name}: tiger finds the best items of all and scores no others; expected "
                "HR@k, Recall@k or nDCG@k, or exp.evaluate.ranking shown"
            )


def measured(
    workplace: Workplace,
    writer: Writer,
    users: Tensor,
    interactions: Interactions,
    *,
    thorough: bool,
) -> SplitResult | None:
    """Measure a split as ``exp.evaluate`` says; the result in the main process.

    Args:
        users: ``(users + 1,)`` int64 token of each.
        interactions: the split, on the device.
        thorough: all metrics, and rows of kinds of items and users.
    """
    found: Ranked | Scored
    if workplace.config.exp.evaluate.ranking == "all":
        found = _ranked(workplace, writer, users, interactions, thorough)
    else:
        found = _scored(workplace, writer, users, interactions)
    if not workplace.accelerator.is_main_process:
        return None
    return measure(workplace, found, interactions, thorough=thorough)


def _ranked(
    workplace: Workplace, writer: Writer, users: Tensor, interactions: Interactions, thorough: bool
) -> Ranked:
    begin, config = time.perf_counter(), workplace.config.exp
    ranking = ranking_of(workplace, interactions)
    states = ranking.states
    count = longest_list(config) if thorough else parse_metric(config.train.metric).k or 1
    histories = Histories(interactions.histories.select(states.histories), users[states.users])
    lists = torch.zeros(len(states.users), count, dtype=torch.int64, device=users.device)
    for rows in workplace.sharing.own(_pages(len(states.users), users.device)):
        best = writer.lists(histories.part(rows), ranking.excluded.select(rows), count)
        lists[rows] = best.items - NO_ITEM  # so that zeros of other processes add nothing
    lists = (workplace.sharing.added(lists) + NO_ITEM)[ranking.owner]
    targets = ranking.targets.to("cpu").numpy()
    clicks = np.diff(targets.offsets)
    found, k = lists.cpu().numpy(), config.evaluate.beyond_accuracy_k
    return Ranked(
        positives=listed(found, targets.values, clicks),
        clicks=clicks,
        sizes=ranking.sizes.cpu().numpy(),
        unlisted=ranking.unlisted,
        lists=found[:, :k] if thorough and k else None,
        seconds=time.perf_counter() - begin,
    )


def _scored(
    workplace: Workplace, writer: Writer, users: Tensor, interactions: Interactions
) -> Scored:
    begin = time.perf_counter()
    states, owner = distinct_states(interactions)
    of_state = owner[interactions.candidates.rows]  # (M,)
    order = of_state.argsort(stable=True)
    counts = torch.bincount(of_state, minlength=len(states.users))
    shown = from_lengths(interactions.candidates.values[order], counts)
    histories = Histories(interactions.histories.select(states.histories), users[states.users])
    found = torch.zeros(len(order), device=order.device)
    for rows in workplace.sharing.own(_pages(len(states.users), users.device)):
        found[_places(shown, rows)] = _scores(writer, histories.part(rows), shown.select(rows))
    found = workplace.sharing.added(found)
    scores = torch.empty_like(found).index_copy(0, order, found)
    return Scored(scores.cpu().numpy(), None, time.perf_counter() - begin)


def _pages(count: int, device: torch.device) -> list[Tensor]:
    return list(torch.arange(count, device=device).split(_PAGE))


def _places(shown: Ragged, rows: Tensor) -> Tensor:
    """Positions of the values of consecutive rows."""
    begin, end = int(shown.offsets[rows[0]]), int(shown.offsets[rows[-1] + 1])
    return torch.arange(begin, end, device=rows.device)


def _scores(writer: Writer, histories: Histories, shown: Ragged) -> Tensor:
    """Score R rows of candidates, concatenated."""
    width = max(1, int(shown.lengths.max()))
    places, mask = padded_aranges(shown.offsets[:-1], shown.lengths, width)
    items = shown.values[places.clamp(max=len(shown.values) - 1)]  # (R, C)
    return writer.scores(histories, items)[mask]
