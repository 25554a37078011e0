"""What a system gives to the trainer: its steps, and what comes after them.

A training is a sequence of segments: an epoch of bricks, an epoch of RecSysLLM, a pass of CLLM4Rec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor

from legos.errors import LegosError
from legos.training.distributed import Replicas
from legos.training.early_stopping import EarlyStopping
from legos.training.records import ResumableRecord

LAST, BEST, PRETRAINED = "last", "best", "pretrained"
"""Checkpoints: all that a resume needs, the best weights, weights that other runs start from."""


class Segment(NamedTuple):
    """Consecutive steps and what follows them.

    Attributes:
        title: shown while it runs.
        labels: keys of its lines in ``metrics.jsonl``, ``epoch`` among them.
        steps: number of its steps.
        done: steps already taken.
        dropout: whether the model is in training mode.
        measure: whether it is validated; ``watch``: for the recipe alone; ``choose``: the best
            weights are kept, and early stopping counts it.
        keep: name of a checkpoint to save at its end; "": none.
        save: whether ``last`` is saved after it.
    """

    title: str
    labels: Mapping[str, Any]
    steps: int = 0
    done: int = 0
    dropout: bool = True
    measure: Literal["no", "watch", "choose"] = "no"
    keep: str = ""
    save: bool = True


class Step(NamedTuple):
    """One optimizer step of this process.

    Attributes:
        pieces: what is read at once, one after the other; at least one.
        rate: share of the peak learning rates.
        share: factor of the summed loss in the gradient.
        optimizer: name of the one that steps.
        clip: largest global gradient norm; None: no clipping.
    """

    pieces: Sequence[Any]
    rate: float = 1.0
    share: float = 1.0
    optimizer: str = ""
    clip: float | None = None


class Loss(NamedTuple):
    """The loss of a piece.

    Attributes:
        value: scalar with its graph; a step's loss is the sum over its pieces and processes.
        counts: further numbers to be summed over pieces and processes.
        rows: the loss of each row, for an error that names the bad ones.
        backward: called after the backward pass, for what the graph does not reach.
    """

    value: Tensor
    counts: Sequence[Tensor | float] = ()
    rows: Tensor | None = None
    backward: Callable[[], None] | None = None


class Recipe(ABC):
    """A system's part of a training.

    Attributes:
        system: its name, stored in checkpoints.
        record: schema of ``state.json``.
        replicas: model and optimizers.
        progress: a dataclass with ``step``, the steps done; all of it is stored.
        early_stopping: of the watched metric.
        rows_per_step: stored; a resumed training must have the same.
        frozen: hashes of the weights that are not trained.
        seed: of dropout.
    """

    system: ClassVar[str]
    record: ClassVar[type[ResumableRecord]]
    replicas: Replicas
    progress: Any
    early_stopping: EarlyStopping
    rows_per_step: int | Mapping[str, int]
    frozen: Mapping[str, str]
    seed: int

    @abstractmethod
    def segment(self) -> Segment | None:
        """The segment under way; None: the training is over."""

    @abstractmethod
    def next_step(self) -> Step:
        """What step ``progress.step`` consists of in this process."""

    @abstractmethod
    def loss(self, piece: Any) -> Loss:
        """Compute the loss of a piece."""

    @abstractmethod
    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> LegosError:
        """The error about a step whose loss or gradient norm is not finite."""

    @abstractmethod
    def count(self, loss: float, counts: Sequence[float], seconds: float) -> dict[str, float]:
        """Count a step that was taken.

        Args:
            loss: of the step, summed over pieces and processes.
            counts: likewise.
            seconds: it took.

        Returns:
            What to log: loss, learning_rate, ...
        """

    @abstractmethod
    def means(self) -> dict[str, float]:
        """Means over the segment under way: ``loss``, and what else there is."""

    @abstractmethod
    def after(self, segment: Segment, score: float) -> None:
        """Go on to the next segment.

        Args:
            segment: the one that ended.
            score: the watched metric; NaN where the segment is not measured.
        """

    def state(self) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """What a checkpoint keeps beside progress, weights and moments: values and tensors."""
        return {}, {}

    def load_state(  # noqa: B027 - most recipes keep nothing else
        self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
    ) -> None:
        """Resume from ``progress`` and ``state()`` of a checkpoint in ``folder``.

        Raises:
            CheckpointError: this training has no such place.
        """

    def origin(self) -> Path | None:
        """A checkpoint of another run to begin with, where there is no ``last``."""
        return None

    def begin(self) -> None:  # noqa: B027 - most recipes have no origin
        """Go on after the weights of ``origin()`` were loaded."""
