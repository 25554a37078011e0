"""The interface of baselines: settings, fitting, scores of candidates and of all items.

A baseline registers itself as bricks do (:mod:`legos.registry`). ``exp.baselines`` names it, alone
or with settings; :mod:`legos.evaluation.baselines` measures it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
from scipy import sparse

from legos.baselines.data import BaselineData, FitData
from legos.errors import OutOfMemory
from legos.registry import BaselineConfig, bricks, read_baseline
from legos.settings import NOTHING, Positive

Own = TypeVar("Own", bound=BaselineConfig)
ORACLE = "oracle"

HistoryScores = Callable[[sparse.csr_matrix], np.ndarray]
"""Histories ``(n, all items)`` float32 whose rows sum to 1 -> scores ``(n, len(data.items))``."""
Arrays = Mapping[str, Any]
"""What a baseline has learned, by name: numpy arrays and scipy's csr matrices, nothing else."""
PageScores = Callable[[np.ndarray], np.ndarray]
"""Rows of ``data.histories`` ``(s,)`` -> scores ``(s, len(data.items))``."""


class MatrixConfig(BaselineConfig):
    """Settings of a baseline that fits a matrix of items by items."""

    max_gib: Annotated[Positive, NOTHING] = 8.0
    """A larger matrix is refused before it is made."""

    def refuse_larger(self, size: int, what: str, instead: str) -> None:
        """Refuse a matrix that would not fit.

        Args:
            size: bytes of it.
            what: it is, with its shape.
            instead: settings that need less.

        Raises:
            OutOfMemory: ``size`` is above ``max_gib``.
        """
        if size > self.max_gib * 2**30:
            raise OutOfMemory(
                f"baseline {self.name}: {what} takes {size:,} bytes ({size / 2**30:,.1f} GiB), "
                f"more than max_gib: {self.max_gib:g}; give {instead}, or a larger max_gib"
            )


class Baseline(ABC, Generic[Own]):
    """A method that models are compared with; built from its settings only."""

    title: ClassVar[str]
    """What tables call it."""

    def __init__(self, settings: Own) -> None:
        self.settings = settings

    @abstractmethod
    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """``(M,)`` float32 scores of the candidates shown, aligned with ``data.candidates``."""

    @abstractmethod
    def page_scores(self, data: BaselineData) -> PageScores:
        """Scores of ``data.items`` for some states of the split.

        Raises:
            ConfigError: it cannot score all items.
        """


class HistoryBaseline(Baseline[Own]):
    """A baseline that scores items for a history, without knowing the user.

    What it learns are plain arrays, so that it can be saved, and scores follow from them alone.
    """

    reads_histories: ClassVar[bool] = True
    """Whether scores depend on the history."""

    @abstractmethod
    def learn(self, data: FitData) -> Arrays:
        """Learn about ``data.items`` from the training split; returns named arrays."""

    @abstractmethod
    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer of the items that :meth:`learn` was called for."""

    def stages(self, data: FitData, begun: Arrays | None = None, done: int = 0) -> Iterator[Arrays]:
        """Learn step by step; the last arrays are those of :meth:`learn`.

        A method that takes minutes has several stages, so that a killed run goes on after the last
        one that it saved.

        Args:
            data: the training split.
            begun: what an earlier call gave after ``done`` stages; None: nothing is done.
            done: stages that need no second time.
        """
        del begun
        if not done:
            yield self.learn(data)

    def fit(self, data: FitData) -> HistoryScores:
        """Learn from the training split; returns a scorer of ``data.items``."""
        return self.scorer(self.learn(data))

    def item_vectors(self, learned: Arrays) -> np.ndarray | None:
        """``(all items, D)`` float32 if scores are products of vectors; else None."""
        del learned
        return None

    def reader_vectors(self, learned: Arrays, histories: sparse.csr_matrix) -> np.ndarray | None:
        """Reader vectors ``(n, D)`` float32 of histories (:data:`HistoryScores`), or None."""
        del learned, histories
        return None

    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """Score candidates by the histories of their impressions."""
        return data.pair_scores(self.fit(data))

    def page_scores(self, data: BaselineData) -> PageScores:
        """Score all items for histories."""
        scores = self.fit(data)
        return lambda rows: scores(data.histories[rows])


def make_baseline(settings: BaselineConfig | str) -> Baseline[BaselineConfig]:
    """Build the method of some settings, or of a name with its defaults."""
    settings = read_baseline(settings)
    made: Baseline[BaselineConfig] = bricks("baseline").brick(settings.name)(settings)
    return made


def baseline_title(label: str) -> str:
    """Name of a label's baseline in tables; the label itself if it is not registered."""
    name, *changed = label.split(",")
    registry = bricks("baseline")
    if name not in registry.names():
        return label
    title: str = registry.brick(name).title  # type: ignore[attr-defined]
    return f"{title} ({', '.join(map(_rounded, changed))})" if changed else title


def _rounded(setting: str) -> str:
    """Round a number in a label to four digits, as in ``l2=160.2948984699853``."""
    key, _, value = setting.partition("=")
    try:
        return f"{key}={float(value):.4g}" if "." in value else setting
    except ValueError:
        return setting


def settings_class(label: str) -> type[BaselineConfig]:
    """The settings class of a label's baseline; the base class if it is not registered."""
    name, registry = label.partition(",")[0], bricks("baseline")
    found = registry.config(name) if name in registry.names() else BaselineConfig
    return found if issubclass(found, BaselineConfig) else BaselineConfig
