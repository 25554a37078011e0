"""Evaluation of a split: row `all`, comparable with other models, then one row per prompt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.sampling import PairSet
from legos.errors import ConfigError
from legos.evaluation.measure import SplitResult, evaluating, known_catalogue, longest_list
from legos.metrics.beyond import ALL, beyond_accuracy_of_lists
from legos.metrics.full_ranking import counted_metrics, listed, require_possible
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.measure import (
    VALID,
    PromptMeasure,
    chosen_templates,
    default_templates,
    is_next,
    main_template,
    some_of,
    text_row,
)
from legos.systems.recsysllm.measure_settings import MeasureSettings
from legos.systems.recsysllm.plain_rows import PlainRows
from legos.systems.recsysllm.prompts import Template
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.candidates import (
    Candidates,
    frozen_candidates,
    split_of_candidates,
    table_candidates,
)
from legos.systems.recsysllm.tasks.events import Sequences
from legos.systems.recsysllm.world import TaskFamilies, World
from legos.workplace.workplace import Workplace


@dataclass
class _Rows:
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, row: dict[str, float], groups: int, available: int) -> None:
        """Add a row with the number of users or reviews measured and available.

        Raises:
            DataError: HR and nDCG of the row cannot be.
        """
        require_possible(row, source=name)
        self.values[name] = row
        self.counts[name] = {"groups": groups, "available": available}


class _NextRow(NamedTuple):
    """Metrics of the ranking of all items, by user and in all, with lists and proven counts."""

    row: dict[str, float]
    per_user: dict[str, np.ndarray]
    lists: np.ndarray
    valid_rate: float | None
    proven: int


class SplitMeasure:
    """Measures splits of one workplace.

    Args:
        backbone: on the device; put into evaluation mode for the time of a call.

    Raises:
        ConfigError: prompts that are not there, or lists of candidates that are too long for one.
    """

    def __init__(self, workplace: Workplace, backbone: Backbone, world: World) -> None:
        self._workplace, self._backbone, self._world = workplace, backbone, world
        self._measure = PromptMeasure(
            workplace.accelerator, backbone, world, workplace.tables.offered, workplace.sharing
        )
        self._plain = PlainRows(world, seed=workplace.config.exp.train.seed)
        for template in chosen_templates(world):
            if template.answer == "item" and not is_next(template):
                self._measure.refuse_long_lists(template, "test", self._frozen("test"))

    def __call__(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Measure a split; without ``thorough`` only what early stopping watches.

        Processes share the prompts; the result is in the main one, None in the others.

        Raises:
            ConfigError: it is neither valid nor test of a leave-last-out table.
        """
        with evaluating(self._backbone):
            result = self._measured(interactions, thorough)
        return result if self._workplace.accelerator.is_main_process else None

    def _measured(self, interactions: Interactions, thorough: bool) -> SplitResult:
        begin = time.perf_counter()
        world, own = self._world, self._world.settings.measure
        split, rows_of = which_split(world.families.sequences, interactions)
        rows = some_of(rows_of.unique(), own.users if thorough else own.valid_users, seed=own.seed)
        chosen, prompts = chosen_templates(world), world.families.prompts
        main = main_template(prompts, chosen if thorough else default_templates(prompts))
        result = _Rows()
        whole = self._next(main, rows, split, thorough=thorough)
        result.add(ALL, dict(whole.row), len(rows), len(rows_of))
        unlisted = np.isnan(next(iter(whole.per_user.values()))).sum()
        result.counts[ALL] |= {"unlisted_clicks": int(unlisted), "proven_lists": whole.proven}
        if thorough:
            result.values[ALL] |= self._beyond(whole.lists)
            for template in chosen:
                name = row_name(world.families, template)
                if is_next(template):
                    each = whole if template == main else self._next(template, rows, split)
                    row = {**each.row, VALID: each.valid_rate or 0.0}
                    result.add(name, row, len(rows), len(rows_of))
                    result.counts[name] |= {"proven_lists": each.proven}
                elif template.answer == "item":
                    row = self._measure.candidates(template, rows, split, self._frozen(split))
                    result.add(name, row, len(rows), len(rows_of))
                else:
                    self._add_written(result, name, template, split, rows)
        at = torch.searchsorted(rows, rows_of).clamp(max=len(rows) - 1)
        measured = (rows[at] == rows_of).numpy()
        everyone = {  # of every user of the split, NaN if not measured
            name: np.where(measured, values[at.numpy()], np.nan)
            for name, values in whole.per_user.items()
        }
        seconds = time.perf_counter() - begin
        return SplitResult(result.values, result.counts, everyone, None, seconds)

    def _next(
        self, template: Template, rows: Tensor, split: SplitName, *, thorough: bool = True
    ) -> _NextRow:
        config, sequences = self._workplace.config.exp, self._world.families.sequences
        past = sequences.seen(split).select(rows)
        if config.evaluate.exclude == "nothing":
            past = past.head(0)
        count = longest_list(config) if thorough else None
        best, rate = self._measure.next_items(template, rows, split, past, count=count)
        lists = best.items.numpy()
        targets = sequences.targets(split)[rows]
        known = PairSet(past.rows, past.values, sequences.num_items)
        listed_at_all = ~known.contains(torch.arange(len(rows)), targets)
        clicks = listed_at_all.long().numpy()
        names = list(config.evaluate.metrics) if thorough else []
        names = list(dict.fromkeys([*names, config.train.metric]))
        positives = listed(lists, targets[listed_at_all].numpy(), clicks)
        sizes = int(self._workplace.tables.offered.sum()) - past.lengths.numpy()
        metrics = counted_metrics(positives, clicks, sizes, names)
        per_user = {name: metrics.per_group[name] for name in names}
        proven = 0 if best.proven is None else int((best.proven == lists.shape[1]).sum())
        row = {name: metrics.values[name] for name in names}
        return _NextRow(row, per_user, lists, rate, proven)

    def _add_written(
        self, result: _Rows, name: str, template: Template, split: SplitName, rows: Tensor
    ) -> None:
        families, own = self._world.families, self._world.settings.measure
        if template.family in families.users:
            available = len(families.sequences)
            instances = families.users[template.family].evaluate(rows, template.name, split)
        else:
            task = families.about_reviews[template.family]
            reviews = task.evaluation_rows(split, template.name)
            available = len(reviews)
            instances = task.evaluate(some_of(reviews, own.users, seed=own.seed), template.name)
        if not instances:
            return
        if own.ratings == "mean" and template.answer in ("stars", "whole-stars"):
            means = self._measure.mean_ratings(instances)
            row = text_row(self._world, instances, [str(mean) for mean in means])
        else:
            texts, complete = self._measure.written(instances)
            row = {**text_row(self._world, instances, texts), "complete rate": complete}
        result.add(name, row, len(instances), available)
        asked = name.rpartition(", ")[0].rpartition(": ")[2]
        for title, plain in self._plain(instances).items():
            if f"{asked}, {title}" not in result.values:
                result.add(f"{asked}, {title}", plain, len(instances), available)

    def _beyond(self, lists: np.ndarray) -> dict[str, float]:
        """Novelty and coverage of the lists."""
        k = self._workplace.config.exp.evaluate.beyond_accuracy_k
        if not k:
            return {}
        short = lists[:, :k]
        known = known_catalogue(self._workplace, None)
        users = np.nonzero(short >= 0)[0]
        return beyond_accuracy_of_lists(short[short >= 0], users, len(short), k=k, **known)

    def _frozen(self, split: SplitName) -> Candidates:
        """The tables' own candidates, which other models rank, too; else drawn ones."""
        tables, own = self._workplace.tables, self._world.settings.measure
        sequences = self._world.families.sequences
        name = split_of_candidates(tables, split, own.negatives)
        if name is not None:
            return table_candidates(tables, sequences, name, split=split)
        folder = candidate_folder(self._workplace, own, split)
        return frozen_candidates(
            folder, sequences, tables=tables.fingerprint, split=split, seed=own.seed,
            negatives=own.negatives,
        )  # fmt: skip


def row_name(families: TaskFamilies, template: Template) -> str:
    """Name of a prompt's row: training data, family, seen or unseen."""
    kind = "seen" if template.seen else "unseen"
    origin, family = families.origin, str(template.family)
    task = families.about_reviews.get("transfer")
    if template.family == "transfer":
        about = {"stars": "rating", "liking": "like or dislike"}
        known = task is not None and task.known is not None
        family = f"{about.get(template.answer, template.answer)} in another domain, "
        family += "users of both" if known else "new users"
    trained = "" if origin is None else f"trained on {origin.name}: "
    return f"{trained}{family}, {kind} prompt {template.name}"


def which_split(sequences: Sequences, interactions: Interactions) -> tuple[SplitName, Tensor]:
    """Identify the held-out split, and the sequence of each impression ``(n,)``.

    Raises:
        ConfigError: it is neither valid nor test of the same leave-last-out table.
    """
    users, clicked = interactions.users.cpu(), (interactions.labels == 1).cpu()
    owners = interactions.candidates.rows.cpu()[clicked]
    targets = interactions.candidates.values.cpu()[clicked].long()
    rows = torch.searchsorted(sequences.users, users).clamp(max=max(0, len(sequences) - 1))
    fits = len(users) > 0 and torch.equal(owners, torch.arange(len(users)))
    if fits and torch.equal(sequences.users[rows], users):
        splits: tuple[SplitName, SplitName] = ("test", "valid")
        for split in splits:
            if torch.equal(sequences.targets(split)[rows], targets):
                return split, rows
    raise ConfigError(
        "recsysllm measures splits valid and test of leave-last-out tables, one click a user; "
        "expected data.splits to name these"
    )


def candidate_folder(workplace: Workplace, own: MeasureSettings, split: SplitName) -> Path:
    """Folder of a split's frozen candidates, one for everything that decides them."""
    name = f"{split}-{own.negatives}-seed{own.seed}-{workplace.tables.fingerprint[:12]}"
    return workplace.config.exp.cache.candidate_folder / workplace.config.data.name / name
