"""The order of passes, which tables each trains, and what these are pulled towards.

CLLM4Rec, sections 3.4.3 and 3.5: the content model warms up alone; then passes over interactions
and over texts alternate; then passes over recommendation prompts and over texts. In every pass one
set of tables learns, and the other is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legos.config.schema import RunConfig
from legos.config.train_schema import StagesConfig, TrainConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError
from legos.files import write_json
from legos.records import Record, read_record
from legos.runs.checkpoint import has_checkpoint
from legos.runs.identity import Identity, run_identity
from legos.settings import settings
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
        lr: peak learning rate.
        passes: of an epoch, in order.
        fresh: begins with new optimizers, and each of its epochs is measured on the valid split
            after the first pass.
    """

    name: str
    epochs: int
    lr: float
    passes: tuple[Pass, ...]
    fresh: bool = False


def stages_of(settings: Cllm4RecConfig, train: TrainConfig) -> tuple[Stage, ...]:
    """Warm-up, mutual pretraining and finetuning; without content there are no passes over texts.

    The public code finetunes in a program of its own, so its optimizers are new.
    """
    own, has_content = train.stages, settings.content.enabled
    warm_up = Pass("content", "content", mutual=False)
    interactions = Pass("collaborative", "collaborative", mutual=has_content)
    prompts = Pass("recommendation", "collaborative", mutual=has_content)
    content = Pass("content", "content")
    last = Pass("content", "content", dropout=settings.content.dropout_in_finetuning)
    pretraining: tuple[Pass, ...] = (interactions, content) if has_content else (interactions,)
    finetuning: tuple[Pass, ...] = (prompts, last) if has_content else (prompts,)
    warmup_epochs = own.warmup_epochs if has_content else 0
    return (
        Stage(WARM_UP, warmup_epochs, train.lr, (warm_up,)),
        Stage(PRETRAINING, own.pretraining_epochs, train.lr, pretraining),
        Stage(FINETUNING, own.finetuning_epochs, own.finetuning_lr, finetuning, fresh=True),
    )


def most_steps(limits: StagesConfig) -> Mapping[Task, int]:
    """Maximum steps of a pass of each task; 0: all of its batches."""
    return {task: getattr(limits, f"{task}_steps") or 0 for task in TASKS}


_FOLDER = "pretrained"


class _Pointer(Record):
    """The location of a finished pretraining."""

    checkpoint: str


class Pretrained:
    """The registry by which runs with the same pretraining find each other.

    Args:
        checkpoint: where the run itself leaves its pretraining.
    """

    def __init__(self, config: RunConfig, tables: Tables, checkpoint: Path) -> None:
        whole = run_identity(config, tables)
        chosen = whole.settings.get("model.content.checkpoint") == "valid"
        phased = {each.key: None for each in settings(config) if each.mark.phase}
        later = () if chosen else config.model.as_in_runs(phased)
        own = {key: value for key, value in whole.settings.items() if key not in later}
        identity = Identity(own, whole.sources)
        folder = config.exp.runs_folder / config.data.name / _FOLDER
        self._path, self._checkpoint = folder / f"{identity.id}.json", checkpoint

    def find(self) -> Path | None:
        """The checkpoint of another run's pretraining; None if there is none."""
        if not self._path.is_file():
            return None
        found = read_record(
            self._path, _Pointer, error=CheckpointError, hint="delete it; it is written again"
        )
        path = Path(found.checkpoint)
        return path if has_checkpoint(path) else None

    def leave(self) -> None:
        """Register the finished pretraining, unless one is registered."""
        if self.find() is None:
            write_json(self._path, {"checkpoint": str(self._checkpoint)})
