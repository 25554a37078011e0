"""The protocol of a system, which trains and scores a model: bricks, or another system.

A run asks nothing else of them: locks, run folders, results, reports, baselines, comparisons and
tests of significance are the same for all. A system is imported when a model YAML names it.

A trained system is a recommender: :class:`Recommending`, which ``legos/recommend/`` gives to users.
There items and users are numbers, rows of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.new_items import NewItems
from legos.data.ragged import Ragged
from legos.evaluation.measure import SplitResult
from legos.evaluation.rank import Best
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker


@dataclass(frozen=True)
class Readers:
    """R readers: users or histories to recommend for.

    Attributes:
        users: ``(R,)`` int64; an unknown user has the number of users as its number.
        histories: R rows of item numbers (int64), oldest first, as long as they are.
    """

    users: Tensor
    histories: Ragged

    def __len__(self) -> int:
        return self.users.numel()

    def part(self, rows: Tensor) -> Readers:
        """Select some readers, by number ``(n,)`` int64."""
        return Readers(self.users[rows], self.histories.select(rows))


class Recommending(Protocol):
    """A trained model as a recommender; what it cannot do raises a ConfigError of one line.

    Every method may be called from several threads at once. Nothing changes what is there:
    :meth:`extended` gives another one.
    """

    @property
    def offered(self) -> Tensor:
        """Recommendable items, ``(items,)`` bool on the CPU."""

    @property
    def history_length(self) -> int | None:
        """Maximum number of newest items of a history that are read; None: all."""

    @property
    def reads(self) -> Sequence[str]:
        """Fields of the tables that describe an item; a new item needs a text in one of them."""

    @property
    def similarity(self) -> Literal["dot", "cosine"] | None:
        """How scores follow from the vectors of readers and items; None: not by a single product.

        Where they do, an index over the vectors of items finds the same lists.
        """

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """Find the best recommendable items of each reader, on the CPU.

        Args:
            readers: R of them.
            count: items of a list, at least 1.
            excluded: R rows of item numbers that a list leaves out.
        """

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Score some items ``(C,)`` int64 for R readers: ``(R, C)`` float32 on the CPU."""

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU."""

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU, ``(R, K, D)`` of a model of several interests."""

    def extended(self, items: NewItems) -> Self:
        """Return a recommender with further items, numbered after the last one."""


class System(Protocol):
    """One model on one data set."""

    @property
    def parameters(self) -> int:
        """Number of trained weights."""

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train, resuming from ``checkpoints/last``, and write ``checkpoints/best``.

        Args:
            folder: of the run.
            tracker: told of losses and validations.

        Returns:
            What ``results.json`` says of the training: rows, steps, epochs, metric, best,
            best_epoch, seconds_per_epoch.

        Raises:
            LegosError: a loss or the watched metric is not finite.
            KeyboardInterrupt: a signal came; ``last`` is saved.
        """

    def load(self, checkpoint: Path) -> str:
        """Load trained weights; returns the id of the run that trained them.

        Raises:
            CheckpointError: damaged, or of another model.
        """

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a labelled split; the result in the main process, None in the others.

        Args:
            interactions: the split, on the accelerator's device.
            thorough: rows of kinds of items and users and the metrics beyond accuracy, too.
        """

    def recommender(self) -> Recommending:
        """The loaded weights as a recommender; every process calls it.

        Here what all readers share is computed, such as the vectors of all items.
        """
