"""What trains and scores a model: bricks, or a system of its own, behind one small protocol.

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
    """Who is recommended to.

    Attributes:
        users: ``(R,)`` int64; the number of users stands for somebody whom the tables do not know.
        histories: R rows of item numbers (int64), oldest first, as long as they are.
    """

    users: Tensor
    histories: Ragged

    def __len__(self) -> int:
        return self.users.numel()

    def part(self, rows: Tensor) -> Readers:
        """Some of them, by number ``(n,)`` int64."""
        return Readers(self.users[rows], self.histories.select(rows))


class Recommending(Protocol):
    """Trained weights that recommend; what a model cannot do raises a ConfigError of one line.

    Every method may be called from several threads at once. Nothing changes what is there:
    :meth:`extended` gives another one.
    """

    @property
    def offered(self) -> Tensor:
        """``(items,)`` bool on the CPU: what lists are made of."""

    @property
    def history_length(self) -> int | None:
        """The newest items of a history that are read at most; None: all."""

    @property
    def reads(self) -> Sequence[str]:
        """Fields of the tables that an item is known by; of these a new item needs a text."""

    @property
    def similarity(self) -> Literal["dot", "cosine"] | None:
        """How the vectors of readers and items give scores; None: not by one product of them.

        Where they do, an index over the vectors of items finds the same lists.
        """

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """The best items of each reader among all that are offered, on the CPU.

        Args:
            readers: R of them.
            count: items of a list, at least 1.
            excluded: R rows of item numbers that a list leaves out.
        """

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Scores of some items ``(C,)`` int64 for R readers: ``(R, C)`` float32 on the CPU."""

    def item_vectors(self) -> Tensor:
        """``(items, D)`` float32 on the CPU."""

    def reader_vectors(self, readers: Readers) -> Tensor:
        """``(R, D)`` float32 on the CPU, ``(R, K, D)`` of a model of several interests."""

    def extended(self, items: NewItems) -> Self:
        """The same with further items, numbered on from the last one."""


class System(Protocol):
    """One model over one data set."""

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train, going on from ``checkpoints/last``, and leave ``checkpoints/best``.

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
        """Take trained weights; returns the id of the run that trained them.

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
