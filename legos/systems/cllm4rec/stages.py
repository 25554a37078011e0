"""Which pass follows which, whose tables learn in it, and what they are pulled towards.

CLLM4Rec, sections 3.4.3 and 3.5: the content model warms up alone; then passes over interactions
and over texts alternate; then passes over recommendation prompts and over texts. In every pass one
set of tables learns, and the other is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from legos.systems.cllm4rec.model import Side
from legos.systems.cllm4rec.settings import Cllm4RecConfig

Task = Literal["collaborative", "content", "recommendation"]
TASKS: tuple[Task, ...] = ("collaborative", "content", "recommendation")
WARM_UP, PRETRAINING, FINETUNING = "warm-up", "pretraining", "finetuning"


@dataclass(frozen=True)
class Pass:
    """One pass over the rows of a task.

    Attributes:
        task: what is predicted.
        learns: whose tables learn; those of the other side are held fixed.
        mutual: pulled towards the other side.
        dropout: the backbone's is on.
    """

    task: Task
    learns: Side
    mutual: bool = True
    dropout: bool = True


@dataclass(frozen=True)
class Stage:
    """Epochs of the same passes.

    Attributes:
        name: shown and stored.
        epochs: how many; 0: it is left out.
        lr: learning rate.
        passes: of an epoch, in order.
        fresh: begins with new optimizers.
        measured: each epoch is measured on the valid split after its first pass.
    """

    name: str
    epochs: int
    lr: float
    passes: tuple[Pass, ...]
    fresh: bool = False
    measured: bool = False


def stages_of(settings: Cllm4RecConfig) -> tuple[Stage, ...]:
    """Warm-up, mutual pretraining and finetuning; without content there are no passes over texts.

    The public code finetunes in a program of its own, so its optimizers are new.
    """
    lengths, has_content = settings.stages, settings.content.enabled
    warm_up = Pass("content", "content", mutual=False)
    content = Pass("content", "content")
    last_content = Pass("content", "content", dropout=settings.content.dropout_in_finetuning)
    interactions = Pass("collaborative", "collaborative", mutual=has_content)
    prompts = Pass("recommendation", "collaborative", mutual=has_content)
    return (
        Stage(
            WARM_UP,
            lengths.warmup_epochs if has_content else 0,
            lengths.pretraining_lr,
            (warm_up,),
        ),
        Stage(
            PRETRAINING,
            lengths.pretraining_epochs,
            lengths.pretraining_lr,
            (interactions, content) if has_content else (interactions,),
        ),
        Stage(
            FINETUNING,
            lengths.finetuning_epochs,
            lengths.finetuning_lr,
            (prompts, last_content) if has_content else (prompts,),
            fresh=True,
            measured=True,
        ),
    )


def most_steps(settings: Cllm4RecConfig) -> Mapping[Task, int]:
    """The most steps that a pass of each task takes; 0: as many as it has batches."""
    limits = settings.stages
    return {
        "collaborative": limits.collaborative_steps or 0,
        "content": limits.content_steps or 0,
        "recommendation": limits.recommendation_steps or 0,
    }
