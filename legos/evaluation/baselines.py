"""Baselines beside a model: which a data set can have, their scores, their metrics.

Each gives scores from what the training split knows and from the history of the impression; none
looks at the labels of the split it scores. The methods themselves are in :mod:`legos.baselines`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from legos.baselines.base import ORACLE, Baseline, baseline_title, make_baseline
from legos.baselines.data import BaselineData
from legos.baselines.text_cosine import item_vectors
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.evaluation.groups import write_groups
from legos.evaluation.measure import Scored, measure
from legos.evaluation.rank import Ranked, Ranking, rank, ranking_of
from legos.evaluation.texts import own_text_vectors, text_source
from legos.registry import BaselineConfig, Need
from legos.runs.tracking import Tracker
from legos.sharing import Sharing
from legos.workplace.workplace import Workplace

Known = Mapping[str, Mapping[str, Any]]
"""By split and label of a baseline what was measured."""

Kept = Callable[[str], Path]
"""By split the folder of a measurement's arrays, ``RunFolder.diagnostics``."""


def rank_by_baseline(
    baseline: Baseline[BaselineConfig],
    data: BaselineData,
    ranking: Ranking,
    *,
    page_size: int = 512,
    k: int | None = None,
) -> Ranked:
    """Rank all items for every state of a split.

    Args:
        baseline: the method.
        data: of the split, with a ``catalogue``.
        ranking: what of the split to rank.
        page_size: states scored at once.
        k: how many of the best items to list.

    Raises:
        ConfigError: it cannot score all items.
        DataError: it needs texts, and the items have none.
    """
    begin = time.perf_counter()
    scores_of = baseline.page_scores(data)
    row_of = np.searchsorted(data.states, ranking.states.histories.cpu().numpy())
    device, items = ranking.owner.device, torch.from_numpy(data.items)

    def score(states: Tensor) -> Tensor:
        rows = row_of[states.cpu().numpy()]
        scores = torch.zeros(len(rows), ranking.offered.numel())
        scores[:, items] = torch.from_numpy(scores_of(rows)).float()
        return scores.to(device)

    ranked = rank(ranking, score, page_size=page_size, k=k)
    return replace(ranked, seconds=time.perf_counter() - begin)


def share_texts(
    config: RunConfig, tables: Tables, accelerator: Accelerator, known: Known, kept: Kept
) -> None:
    """Encode with all processes what the baselines of the first one will compare."""
    missing = missing_baselines(config, tables, known, kept)
    shared = accelerator.num_processes > 1 and _compare_texts(missing)
    text_model = config.exp.evaluate.text_model
    if shared and text_source(config, tables, text_model) == "model":
        item_vectors(tables, text_model, Sharing.between(accelerator))


def measure_baselines(
    workplace: Workplace, tracker: Tracker, known: dict[str, dict[str, Any]], kept: Kept
) -> None:
    """Score and measure the baselines of ``exp.baselines`` on every test split.

    Args:
        workplace: configuration and data.
        tracker: reports what is skipped.
        known: by split and label of a baseline what ``SplitResult.summary()`` gave; filled here,
            nothing is computed twice.
        kept: where the metrics of every group go.
    """
    for split in workplace.config.data.splits.test:
        possible = possible_baselines(workplace.config, workplace.tables, split)
        for each in workplace.config.exp.baselines:
            if each not in possible:
                title = baseline_title(each.label)
                tracker.say(f"{split}: no row {title}, which these data cannot have")
        missing = [each for each in possible if _is_missing(each, split, known, kept)]
        found = _measured(workplace, split, missing, kept(split))
        known[split] = {**known.get(split, {}), **found}


def _measured(
    workplace: Workplace, split: str, asked: Sequence[BaselineConfig], folder: Path
) -> dict[str, Any]:
    if not asked:
        return {}
    config, interactions = workplace.config, workplace.split(split)
    evaluate = config.exp.evaluate
    ranks_all = evaluate.ranking == "all"
    data = BaselineData(
        workplace.tables,
        split,
        train=config.data.splits.train,
        history_length=config.data.history_length,
        text_model=evaluate.text_model,
        own_vectors=own_text_vectors(workplace, evaluate.text_model)
        if _compare_texts(asked)
        else None,
        catalogue=workplace.tables.offered.numpy() if ranks_all else None,
    )
    ranking = ranking_of(workplace, interactions) if ranks_all else None
    results = {}
    for settings in asked:
        baseline, begin = make_baseline(settings), time.perf_counter()
        if ranking is None:
            scores = baseline.pair_scores(data)
            found: Scored | Ranked = Scored(scores, None, time.perf_counter() - begin)
        else:
            found = rank_by_baseline(
                baseline, data, ranking, page_size=evaluate.page_size, k=evaluate.beyond_accuracy_k
            )
        result = measure(workplace, found, interactions, thorough=True)
        write_groups(folder / settings.label, result.groups)
        results[settings.label] = result.summary()
    return results


def possible_baselines(config: RunConfig, tables: Tables, split: str) -> list[BaselineConfig]:
    """Those of ``exp.baselines`` that a split has the columns for.

    The oracle knows the candidates that were shown, and nothing of other items; a text baseline
    needs items with texts, one of recency times of clicks.
    """
    has = what_data_have(tables, config.data.splits.train)
    if config.exp.evaluate.ranking == "shown" and tables.has(split, ORACLE):
        has.add("oracle")
    return [each for each in config.exp.baselines if each.needs <= has]


def what_data_have(tables: Tables, train: str) -> set[Need]:
    """What a baseline may need of the items and of the training split."""
    has: set[Need] = set()
    if tables.text_fields:
        has |= {"texts", "text_vectors"}
    if tables.has(train, "time") and bool((tables.scalar(train, "time") >= 0).any()):
        has.add("times")
    return has


def _compare_texts(baselines: Sequence[BaselineConfig]) -> bool:
    """Whether one of them reads vectors of texts."""
    return any("text_vectors" in each.needs for each in baselines)


def missing_baselines(
    config: RunConfig, tables: Tables, known: Known, kept: Kept
) -> list[BaselineConfig]:
    """What ``measure_baselines`` has to compute for some split."""
    return [
        each
        for split in config.data.splits.test
        for each in possible_baselines(config, tables, split)
        if _is_missing(each, split, known, kept)
    ]


def _is_missing(baseline: BaselineConfig, split: str, known: Known, kept: Kept) -> bool:
    """Whether a baseline is not measured, or its groups are not on disk (earlier versions)."""
    label = baseline.label
    return label not in known.get(split, {}) or not (kept(split) / label).is_dir()
