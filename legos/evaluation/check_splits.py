"""Every split of a run, before its first step: can it be trained on, can it be measured?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import DataError, nearest
from legos.metrics import parse_metric
from legos.metrics.names import GLOBAL

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
    kind = parse_metric(name).kind
    if kind not in ("AUC", "GAUC") or config.exp.evaluate.ranking == "all":
        return True
    if kind == "AUC":
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
