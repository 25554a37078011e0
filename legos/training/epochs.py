"""Training in plain epochs, each measured at its end, for systems without stages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from legos.records import Count
from legos.training.recipe import Recipe, ResumableRecord, Segment, record_of


@dataclass
class EpochProgress:
    """Position in the training; saved with every checkpoint.

    Attributes:
        step: optimizer steps done.
        epoch: epochs done, validation included.
        loss_sum: sum of the losses of the rows seen in the epoch under way.
        loss_rows: their number.
        seconds: spent in training steps, over all interruptions.
    """

    step: int = 0
    epoch: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    seconds: float = 0.0


class EpochRecord(ResumableRecord):
    """The part of ``state.json`` that training needs."""

    progress: record_of(EpochProgress)  # type: ignore[valid-type]
    rows_per_step: Count


class Epochs(Protocol):
    """Something with a number of steps per epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""


class PlainEpochs(Recipe):
    """Epochs of one kind of step, each measured at its end.

    Attributes:
        stream: of the steps.
    """

    stream: Epochs

    @property
    @abstractmethod
    def epochs_done(self) -> int:
        """Epochs done, validation included."""

    def span(self) -> tuple[int, int]:
        """Steps of all epochs."""
        return self.progress.step, self.train.epochs * self.stream.steps_per_epoch

    def segment(self) -> Segment | None:
        """The current epoch."""
        done, steps = self.epochs_done, self.stream.steps_per_epoch
        if done >= self.train.epochs or self.early_stopping.stop:
            return None
        return Segment(
            title=f"epoch {done + 1}",
            labels={"epoch": done + 1},
            steps=steps,
            done=self.progress.step - done * steps,
            first=done * steps,
            measure="choose",
        )


class EpochRecipe(PlainEpochs):
    """Plain epochs of steps whose loss is a sum over rows; the first count is their number."""

    record = EpochRecord
    progress: EpochProgress

    @property
    def epochs_done(self) -> int:
        """Number of epochs done."""
        return self.progress.epoch

    def count(self, loss: float, counts: Sequence[float], seconds: float) -> dict[str, float]:
        """Loss and learning rate; the loss is summed over the rows of the step."""
        progress, rows = self.progress, int(counts[0])
        log = {"loss": loss / rows, "learning_rate": self.train.lr * self.rate}
        progress.step += 1
        progress.loss_sum += loss
        progress.loss_rows += rows
        progress.seconds += seconds
        return log

    def means(self) -> dict[str, float]:
        """The mean loss of a row."""
        return {"loss": self.progress.loss_sum / max(1, self.progress.loss_rows)}

    def after(self, segment: Segment, score: float) -> None:
        """Start the next epoch."""
        self.progress.epoch += 1
        self.progress.loss_sum, self.progress.loss_rows = 0.0, 0
