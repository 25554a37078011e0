"""The interface between a system and the trainer: its steps, and what follows them.

A training is a sequence of segments: an epoch of bricks, an epoch of RecSysLLM, a pass of CLLM4Rec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    cast,
    get_type_hints,
)

from pydantic import ConfigDict, Field, create_model
from torch import Tensor

from legos.errors import Diverged
from legos.records import Count, Record
from legos.runs.checkpoint import StateRecord
from legos.training.distributed import Replicas
from legos.training.early_stopping import EarlyStopping, EarlyStoppingRecord
from legos.training.optimizer import learning_rate_factor

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

LAST, BEST, PRETRAINED = "last", "best", "pretrained"
"""Checkpoints: all that a resume needs, the best weights, weights that other runs start from."""


class Segment(NamedTuple):
    """Consecutive steps and what follows them.

    Attributes:
        title: shown while it runs.
        labels: keys of its lines in ``metrics.jsonl``, ``epoch`` among them.
        steps: number of its steps.
        done: steps already taken.
        first: number of its first step, for :meth:`Recipe.step`.
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
    first: int = 0
    dropout: bool = True
    measure: Literal["no", "watch", "choose"] = "no"
    keep: str = ""
    save: bool = True


class Step(NamedTuple):
    """One optimizer step of this process.

    Attributes:
        pieces: what is read at once, one after the other; at least one.
        share: factor of the summed loss in the gradient.
        optimizer: name of the one that steps.
    """

    pieces: Sequence[Any]
    share: float = 1.0
    optimizer: str = ""


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
        train: ``exp.train``.
        record: schema of ``state.json``.
        replicas: model and optimizers.
        progress: a dataclass with ``step``, the steps done; all of it is stored.
        early_stopping: of the watched metric.
        rows_per_step: stored; a resumed training must have the same.
        frozen: hashes of the weights that are not trained.
    """

    system: ClassVar[str]
    record: ClassVar[type[ResumableRecord]]
    train: TrainConfig
    replicas: Replicas
    progress: Any
    early_stopping: EarlyStopping
    rows_per_step: int | Mapping[str, int]
    frozen: Mapping[str, str]

    @abstractmethod
    def span(self) -> tuple[int, int]:
        """Steps done and all steps of what has one warm-up and one schedule."""

    @property
    def rate(self) -> float:
        """The share of the peak learning rates at the next step."""
        done, total = self.span()
        train = self.train
        return learning_rate_factor(done, total=total, warmup=train.warmup, schedule=train.schedule)

    @abstractmethod
    def segment(self) -> Segment | None:
        """The current segment; None: the training is over."""

    @abstractmethod
    def step(self, number: int) -> Step:
        """Return this process's part of a step of the current segment.

        It is made ahead in a background thread: a function of the seed, the number, and what no
        step of the segment changes.
        """

    def next_step(self) -> Step:
        """Number of the next step."""
        segment = cast(Segment, self.segment())
        return self.step(segment.first + segment.done)

    @abstractmethod
    def loss(self, piece: Any) -> Loss:
        """Compute the loss of a piece."""

    @abstractmethod
    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> Diverged:
        """Return the error for a step whose loss or gradient norm is not finite."""

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
        """Means over the current segment: ``loss``, and others."""

    def observed(self, segment: Segment) -> Mapping[str, float]:
        """Further measurements after a segment, named ``figure/line``; they train nothing."""
        return {}

    @abstractmethod
    def after(self, segment: Segment, score: float) -> None:
        """Advance to the next segment.

        Args:
            segment: the one that ended.
            score: the watched metric; NaN where the segment is not measured.
        """

    def state(self) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """State for a checkpoint besides progress, weights and moments: values and tensors."""
        return {}, {}

    def load_state(  # noqa: B027 - most recipes keep nothing else
        self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
    ) -> None:
        """Resume from ``progress`` and ``state()`` of a checkpoint in ``folder``.

        Raises:
            CheckpointError: this training has no such place.
        """

    def origin(self) -> Path | None:
        """A checkpoint of another run to start from, if there is no ``last``."""
        return None

    def begin(self) -> None:  # noqa: B027 - most recipes have no origin
        """Start after the weights of ``origin()`` were loaded."""


_BOUNDED: dict[Any, Any] = {int: Count, dict[str, int]: dict[str, Count]}


def record_of(plain: type) -> Any:
    """A schema with every field of a dataclass and no other; whole numbers are not negative."""
    hints = get_type_hints(plain)
    kinds = {each.name: hints[each.name] for each in fields(plain)}
    described: dict[str, Any] = {
        name: (_BOUNDED.get(kind, kind), ...) for name, kind in kinds.items()
    }
    config = ConfigDict(**{**Record.model_config, "extra": "forbid"})
    return create_model(f"{plain.__name__}Record", __config__=config, **described)


class RandomRecord(Record):
    """States of generators, see :mod:`legos.training.weights`; checked where they are used."""

    python: Annotated[list[Any], Field(min_length=3, max_length=3)]
    numpy: Annotated[list[Any], Field(min_length=5, max_length=5)]


class TrainedRecord(StateRecord):
    """``state.json``, as far as scoring reads it."""

    run: str
    frozen: dict[str, str]


class ResumableRecord(TrainedRecord):
    """``state.json``, as far as training reads it in every system."""

    early_stopping: EarlyStoppingRecord
    metrics_position: Count
    random: list[RandomRecord] | RandomRecord
    scaler: dict[str, Any] | None = None
