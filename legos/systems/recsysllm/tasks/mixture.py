"""All families in one stream of training examples, and what builds them from tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.systems.recsysllm.explanations import Miner, read_explanations
from legos.systems.recsysllm.origin import Origin
from legos.systems.recsysllm.prompts import Family, Prompts, builtin_prompts
from legos.systems.recsysllm.task_settings import TaskSettings
from legos.systems.recsysllm.tasks import draws
from legos.systems.recsysllm.tasks.catalogue import Catalogue
from legos.systems.recsysllm.tasks.direct import DirectTask
from legos.systems.recsysllm.tasks.examples import Instance
from legos.systems.recsysllm.tasks.explanation import ExplanationTask
from legos.systems.recsysllm.tasks.rating import RatingTask
from legos.systems.recsysllm.tasks.review import ReviewTextTask
from legos.systems.recsysllm.tasks.review_rows import ReviewRows
from legos.systems.recsysllm.tasks.review_tasks import ReviewTask
from legos.systems.recsysllm.tasks.sequences import Sequences
from legos.systems.recsysllm.tasks.sequential import SequentialTask
from legos.systems.recsysllm.tasks.transfer import TransferTask
from legos.systems.recsysllm.tasks.user_tasks import UserTask


class TrainingTask(Protocol):
    """What a mixture needs of a family."""

    def __len__(self) -> int: ...

    def train(self, numbers: Tensor, *, epoch: int) -> list[Instance]: ...


class TaskMixture:
    """Rows of an epoch, each of a family drawn by weight, a function of (seed, epoch, row).

    Within a family every row draws an example of its own; an epoch may miss one and have another
    twice.

    Args:
        tasks: by name.
        weights: of each; tasks without training examples or weight are left out.
        seed: of the run.
        rows: of an epoch; None: as many as all tasks have.

    Attributes:
        names: of the tasks taking part.

    Raises:
        ConfigError: nothing is left, or a task has no weight.
    """

    def __init__(
        self,
        tasks: Mapping[str, TrainingTask],
        weights: Mapping[str, float],
        *,
        seed: int,
        rows: int | None = None,
    ) -> None:
        missing = sorted(tasks.keys() - weights.keys())
        if missing:
            raise ConfigError(f"mixture: no weight of task {missing[0]!r}")
        self.tasks = {n: task for n, task in tasks.items() if len(task) and weights[n] > 0}
        self.names = list(self.tasks)
        if not self.names:
            raise ConfigError("mixture: no task has both a weight and training examples")
        self.seed = seed
        self._shares = torch.tensor([weights[name] for name in self.names], dtype=torch.float64)
        self._rows = sum(map(len, self.tasks.values())) if rows is None else rows

    def __len__(self) -> int:
        """Rows of an epoch."""
        return self._rows

    def families(self, rows: Tensor, *, epoch: int) -> Tensor:
        """``(B,)`` int64 place in ``names`` of each row."""
        draw = draws.uniform(rows, 1, draws.FAMILY, seed=self.seed, epoch=epoch)[:, 0]
        edges = self._shares.cumsum(0)
        found = torch.searchsorted(edges, draw * edges[-1], right=True)
        return found.clamp(max=len(self.names) - 1)

    def batch(self, rows: Tensor, *, epoch: int) -> list[Instance]:
        """Filled templates of rows ``(B,)``, in their order."""
        families = self.families(rows, epoch=epoch)
        found: list[Instance | None] = [None] * len(rows)
        for place, name in enumerate(self.names):
            task = self.tasks[name]
            at = (families == place).nonzero()[:, 0]
            numbers = draws.choice(rows[at], len(task), draws.DATUM, seed=self.seed, epoch=epoch)
            for where, instance in zip(
                at.tolist(), task.train(numbers, epoch=epoch) if len(at) else [], strict=True
            ):
                found[where] = instance
        return [instance for instance in found if instance is not None]


@dataclass(frozen=True)
class TaskFamilies:
    """The families that tables have data for.

    Attributes:
        catalogue: names of items and users.
        sequences: what users did.
        reviews: None where there are none.
        users: sequential and direct.
        about_reviews: rating, explanation, review; transfer, where the model was trained on other
            tables; empty without reviews.
        prompts: templates.
        settings: how.
        seed: of the run.
        origin: those other tables, if there are any.
    """

    catalogue: Catalogue
    sequences: Sequences
    reviews: ReviewRows | None
    users: Mapping[Family, UserTask]
    about_reviews: Mapping[Family, ReviewTask]
    prompts: Prompts
    settings: TaskSettings
    seed: int
    origin: Origin | None = None

    @classmethod
    def from_tables(
        cls,
        tables: Tables,
        settings: TaskSettings,
        *,
        seed: int,
        prompts: Prompts | None = None,
        rows: ReviewRows | None = None,
        origin: Origin | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> TaskFamilies:
        """Read tables and make tasks.

        Args:
            tables: split leave-last-out.
            settings: how.
            seed: of the run.
            prompts: templates; the built-in ones if not given.
            rows: reviews with imported explanations; read from the tables, their explanations
                mined, if not given.
            origin: other tables, which the model that is measured was trained on.
            say: told how many published explanations there are.

        Raises:
            DataError: the tables are split in another way or have no titles, or a file of
                explanations is missing or about other data.
            ConfigError: windows in days are asked for and times are unknown.
        """
        prompts = prompts or builtin_prompts()
        catalogue = Catalogue.from_tables(
            tables, item_text=settings.item_text, max_words=settings.max_name_words
        )
        if origin is not None:
            catalogue = replace(catalogue, users=origin.user_names(tables))
        sequences = Sequences.from_tables(tables)
        if rows is None and "reviews" in tables.manifest["tables"]:
            rows = ReviewRows.from_tables(tables, split=settings.split, seed=seed)
            rows = (
                mined(rows)
                if settings.explanations is None
                else published(rows, tables, settings.explanations, say)
            )
        users: list[UserTask] = [
            kind(sequences, catalogue, prompts, settings, seed=seed)
            for kind in (SequentialTask, DirectTask)
        ]
        about: list[ReviewTask] = []
        if rows is not None:
            about = [
                kind(rows, catalogue, prompts, settings, seed=seed)
                for kind in (RatingTask, ExplanationTask, ReviewTextTask)
            ]
        if rows is not None and origin is not None:
            known = origin.known_users(tables)
            about.append(TransferTask(rows, catalogue, prompts, settings, seed=seed, known=known))
        return cls(
            catalogue, sequences, rows, {task.family: task for task in users},
            {task.family: task for task in about}, prompts, settings, seed, origin,
        )  # fmt: skip

    def mixture(self, *, rows: int | None = None) -> TaskMixture:
        """Of all families by the weights of the settings."""
        own = self.settings
        weights: dict[str, float] = {
            "rating": own.rating_weight,
            "sequential": own.sequential_weight,
            "explanation": own.explanation_weight,
            "review": own.review_weight,
            "direct": own.direct_weight,
        }
        about = self.about_reviews.items()
        tasks: dict[str, TrainingTask] = {name: t for name, t in about if name != "transfer"}
        tasks.update(self.users.items())
        return TaskMixture(tasks, weights, seed=self.seed, rows=rows)


def mined(rows: ReviewRows) -> ReviewRows:
    """Reviews with explanations found by the miner; training reviews decide what is a feature."""
    bodies: Sequence[str] = rows.bodies
    miner = Miner(bodies[row] for row in rows.of("train").tolist())
    return rows.with_explanations([miner.best(body) for body in bodies])


def published(
    rows: ReviewRows, tables: Tables, path: Path, say: Callable[[str], None]
) -> ReviewRows:
    """Reviews with the explanations of a file; those it does not name have none."""
    pairs = list(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
    users, items = tables.vocabulary("user_id"), tables.vocabulary("item_id")
    found, counts = read_explanations(path, users, items, pairs)
    known = sum(one is not None for one in found)
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(f"explanations of {known:,} of {len(rows):,} reviews from {path}: {said}")
    return rows.with_explanations(found)
