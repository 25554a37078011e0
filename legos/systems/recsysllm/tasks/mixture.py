"""All families in one stream of training examples, and what builds them from tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.systems.recsysllm.explanations import Miner, read_explanations
from legos.systems.recsysllm.masking import ENTITY, SENTENCE, Blanks
from legos.systems.recsysllm.origin import Origin
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, builtin_prompts
from legos.systems.recsysllm.task_settings import AROUND_ANSWER, TaskSettings
from legos.systems.recsysllm.tasks import draws
from legos.systems.recsysllm.tasks.catalogue import Catalogue
from legos.systems.recsysllm.tasks.events import ReviewRows, Sequences
from legos.systems.recsysllm.tasks.review_tasks import (
    ExplanationTask,
    RatingTask,
    ReviewTask,
    ReviewTextTask,
    TransferTask,
)
from legos.systems.recsysllm.tasks.user_tasks import DirectTask, SequentialTask, UserTask
from legos.systems.recsysllm.units import Documents, UnitTokenizer


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


@dataclass(frozen=True)
class TaskExamples:
    """N examples as columns.

    Attributes:
        documents: prompt, then answer.
        blanks: one a document: its answer.
        templates: ``(N,)`` int64 number of the template.
        users, items: ``(N,)`` int64, -1 where none.
        stars: ``(N,)`` float32, NaN where none.
        candidates: N rows of items to choose from.
        references: N answers as text.
    """

    documents: Documents
    blanks: Blanks
    templates: Tensor
    users: Tensor
    items: Tensor
    stars: Tensor
    candidates: Ragged
    references: list[str]

    def __len__(self) -> int:
        return len(self.references)


def build_task_examples(
    instances: Sequence[Instance],
    tokenizer: UnitTokenizer,
    prompts: Prompts,
    settings: TaskSettings,
) -> TaskExamples:
    """Tokenize filled templates.

    The oldest events of a prompt that is too long go first, then wrong candidates of training, then
    ends of its texts; of too long sentences in answers the end goes.

    Args:
        instances: N.
        tokenizer: of the backbone.
        prompts: where their templates are numbered.
        settings: ``max_tokens`` and ``max_answer_tokens`` count.

    Raises:
        DataError: what may not be dropped is too long.
    """
    answers = tokenizer.encode([instance.answer for instance in instances])
    answers = answers.truncated(settings.max_answer_tokens)
    room = settings.max_tokens - settings.max_answer_tokens - AROUND_ANSWER
    asked = tokenizer.encode([instance.prompt for instance in instances]).truncated(room)
    documents = asked.followed_by(answers)
    begins, lengths = asked.tokens.lengths, documents.tokens.lengths
    ranges = torch.stack([begins, lengths], 1)  # (N, 2)
    levels = [SENTENCE if i.template.free_text else ENTITY for i in instances]
    ones = torch.ones(len(instances), dtype=torch.int64)
    shown = [len(instance.candidates) for instance in instances]
    flat = [item for instance in instances for item in instance.candidates]
    numbers = {template.name: row for row, template in enumerate(prompts.templates)}
    return TaskExamples(
        documents=documents,
        blanks=Blanks(from_lengths(ranges, ones), torch.tensor(levels, dtype=torch.int64)),
        templates=_column([numbers[instance.template.name] for instance in instances]),
        users=_column([instance.user for instance in instances]),
        items=_column([instance.item for instance in instances]),
        stars=torch.tensor([instance.stars for instance in instances], dtype=torch.float32),
        candidates=from_lengths(_column(flat), _column(shown)),
        references=[instance.reference for instance in instances],
    )


def _column(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
