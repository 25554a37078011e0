"""Progress of a CLLM4Rec training."""

from __future__ import annotations

from dataclasses import dataclass, field

from legos.records import Count
from legos.systems.cllm4rec.stages import TASKS
from legos.training.recipe import ResumableRecord, record_of


@dataclass
class Progress:
    """Position in the training; saved with every checkpoint.

    Attributes:
        stage: number of the stage under way.
        epoch: epochs done of it.
        part: passes done of its epoch.
        position: steps done of the pass.
        step: steps done in all.
        epochs: epochs done in all.
        done: by task steps done in all; the next batch follows from it.
        loss_sum, likelihood_sum, count: over the pass under way.
        seconds, tokens: by stage spent and read in steps, over all interruptions.
    """

    stage: int = 0
    epoch: int = 0
    part: int = 0
    position: int = 0
    step: int = 0
    epochs: int = 0
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TASKS, 0))
    loss_sum: float = 0.0
    likelihood_sum: float = 0.0
    count: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


class Resumable(ResumableRecord):
    """The part of ``state.json`` that training needs."""

    progress: record_of(Progress)  # type: ignore[valid-type]
    rows_per_step: dict[str, Count]
    kept_score: float | None
    kept_collaborative_score: float | None = None
