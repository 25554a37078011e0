"""The task families of a data set, its entities and their tokens, shared by all parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from legos.data.ragged import from_lengths
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.systems.recsysllm.automaton import Automaton, EntityPool
from legos.systems.recsysllm.backbones.decoder import PositionRows
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.catalogue import ITEM, Catalogue, Origin
from legos.systems.recsysllm.masking import ENTITY, SENTENCE, Blanks
from legos.systems.recsysllm.positions import Examples, SpecialTokens, build_examples
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, builtin_prompts
from legos.systems.recsysllm.settings import AROUND_ANSWER, RecsysllmConfig, TaskSettings
from legos.systems.recsysllm.tasks.events import DATUM, FAMILY, Sequences, choice, uniform
from legos.systems.recsysllm.tasks.explanations import Miner, read_explanations
from legos.systems.recsysllm.tasks.review_tasks import ReviewRows, ReviewTask
from legos.systems.recsysllm.tasks.user_tasks import DirectTask, SequentialTask, UserTask
from legos.systems.recsysllm.units import NEVER_DROPPED, Documents, UnitTokenizer

_OF_REVIEWS: tuple[Family, ...] = ("rating", "explanation", "review")


class TaskMixture:
    """Rows of an epoch, each of a family drawn by its share, a function of (seed, epoch, row).

    A family's share is its weight, times its examples unless ``mixture`` is ``equal``.

    Within a family every row draws an example of its own; an epoch may miss one and have another
    twice. An epoch has as many rows as all tasks have examples.

    Args:
        tasks: by family; those without training examples or weight are left out.

    Attributes:
        names: of the families taking part.

    Raises:
        ConfigError: nothing is left.
    """

    def __init__(
        self, tasks: Mapping[Family, UserTask | ReviewTask], settings: TaskSettings, *, seed: int
    ) -> None:
        equal = settings.mixture == "equal"
        weights = {
            name: float(getattr(settings, f"{name}_weight")) * (1 if equal else len(task))
            for name, task in tasks.items()
        }
        self.tasks = {n: task for n, task in tasks.items() if len(task) and weights[n] > 0}
        self.names, self.seed = list(self.tasks), seed
        if not self.names:
            raise ConfigError("mixture: no task has both a weight and training examples")
        shares = torch.tensor([weights[name] for name in self.names], dtype=torch.float64)
        self._edges = shares.cumsum(0)

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(map(len, self.tasks.values()))

    def families(self, rows: Tensor, *, epoch: int) -> Tensor:
        """``(B,)`` int64 which of ``names`` each row is of."""
        draw = uniform(rows, 1, FAMILY, seed=self.seed, epoch=epoch)[:, 0] * self._edges[-1]
        return torch.searchsorted(self._edges, draw, right=True).clamp(max=len(self.names) - 1)

    def batch(self, rows: Tensor, *, epoch: int) -> list[Instance]:
        """Filled templates of rows ``(B,)``, in their order."""
        families = self.families(rows, epoch=epoch)
        made: dict[int, Instance] = {}
        for number, task in enumerate(self.tasks.values()):
            at = (families == number).nonzero()[:, 0]
            if len(at):
                examples = choice(rows[at], len(task), DATUM, seed=self.seed, epoch=epoch)
                made.update(zip(at.tolist(), task.train(examples, epoch=epoch), strict=True))
        return [made[row] for row in range(len(rows))]


@dataclass(frozen=True)
class TaskFamilies:
    """The families that tables have data for.

    Attributes:
        reviews: None where there are none.
        users: sequential and direct.
        about_reviews: rating, explanation, review; transfer, where the model was trained on other
            tables; empty without reviews.
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
        origin: Origin | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> TaskFamilies:
        """Read tables, split leave-last-out, and make tasks.

        Args:
            origin: other tables, which the model that is measured was trained on.
            say: told how many published explanations there are.

        Raises:
            DataError: the tables are split in another way or have no titles, or a file of
                explanations is missing or about other data.
            ConfigError: windows in days are asked for and times are unknown.
        """
        prompts, rows = builtin_prompts(), None
        catalogue = Catalogue.from_tables(
            tables, item_text=settings.item_text, item_codes=settings.item_codes,
            max_words=settings.max_name_words, features=settings.features,
        )  # fmt: skip
        if origin is not None:
            catalogue = replace(catalogue, users=origin.user_names(tables))
        sequences = Sequences.from_tables(tables)
        about: dict[Family, ReviewTask] = {}
        if "reviews" in tables.manifest["tables"]:
            rows = ReviewRows.from_tables(tables, split=settings.split, seed=seed)
            rows = _explained(rows, tables, settings.explanations, say)
            for name in _OF_REVIEWS:
                about[name] = ReviewTask(name, rows, catalogue, prompts, settings, seed=seed)
            if origin is not None:
                about["transfer"] = ReviewTask(
                    "transfer", rows, catalogue, prompts, settings, seed=seed,
                    known=origin.known_users(tables),
                )  # fmt: skip
        users: dict[Family, UserTask] = {
            kind.family: kind(sequences, catalogue, prompts, settings, seed=seed)
            for kind in (SequentialTask, DirectTask)
        }
        return cls(catalogue, sequences, rows, users, about, prompts, settings, seed, origin)

    def mixture(self) -> TaskMixture:
        """All families that may be trained with, by the weights of the settings."""
        tasks: dict[Family, UserTask | ReviewTask] = {**self.about_reviews, **self.users}
        tasks.pop("transfer", None)
        return TaskMixture(tasks, self.settings, seed=self.seed)


def _explained(
    rows: ReviewRows, tables: Tables, path: Path | None, say: Callable[[str], None]
) -> ReviewRows:
    """Reviews with the explanations of a file, or found by the miner in training reviews."""
    if path is None:
        miner = Miner(rows.bodies[row] for row in rows.of("train").tolist())
        return replace(rows, explanations=[miner.best(body) for body in rows.bodies])
    pairs = list(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
    users, items = tables.vocabulary("user_id"), tables.vocabulary("item_id")
    explanations, counts = read_explanations(path, users, items, pairs)
    known = sum(one is not None for one in explanations)
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(f"explanations of {known:,} of {len(rows):,} reviews from {path}: {said}")
    return replace(rows, explanations=explanations)


def tokenized(
    instances: Sequence[Instance], tokenizer: UnitTokenizer, settings: TaskSettings
) -> tuple[Documents, Blanks]:
    """Filled templates as documents, prompt and then answer, whose only blank is the answer.

    The blank's mask says what is asked for: [MASK] for ratings, words of choice and items, [sMASK]
    for sentences and headlines. Of a prompt that is too long the oldest events go first, then wrong
    candidates of training, then ends of its texts; of a too long sentence in an answer the end.

    Raises:
        DataError: what may not be dropped is too long.
    """
    answers = tokenizer.encode([instance.answer for instance in instances])
    answers = answers.truncated(settings.max_answer_tokens)
    room = settings.max_tokens - settings.max_answer_tokens - AROUND_ANSWER
    asked = tokenizer.encode([instance.prompt for instance in instances]).truncated(room)
    documents = asked.followed_by(answers)
    ranges = torch.stack([asked.tokens.lengths, documents.tokens.lengths], 1)  # (N, 2)
    levels = [SENTENCE if one.template.free_text else ENTITY for one in instances]
    ones = torch.ones(len(instances), dtype=torch.int64)
    return documents, Blanks(from_lengths(ranges, ones), torch.tensor(levels, dtype=torch.int64))


@dataclass(frozen=True)
class World:
    """A data set as tokens of a language model, shared by all parts.

    Attributes:
        settings: all of them.
        families: tasks of these tables.
        tokenizer: units to tokens.
        pool: every entity as tokens.
        automaton: of the pool, on the CPU.
    """

    settings: RecsysllmConfig
    families: TaskFamilies
    tokenizer: UnitTokenizer
    pool: EntityPool
    automaton: Automaton

    def examples(
        self,
        instances: Sequence[Instance],
        special: SpecialTokens,
        settings: TaskSettings | None = None,
    ) -> Examples:
        """Filled templates as examples for a backbone with these tokens, on the CPU.

        ``settings`` stand in place of those of training.
        """
        own = settings or self.settings.tasks
        if self.settings.positions.prepend_cls:  # it is one of the most tokens
            own = own.model_copy(update={"max_tokens": own.max_tokens - 1})
        documents, blanks = tokenized(instances, self.tokenizer, own)
        return build_examples(
            documents, blanks, special, self.settings.positions, self.automaton,
            predicted=told_items(documents, instances) if own.predict_past else None,
        )  # fmt: skip


def told_items(documents: Documents, instances: Sequence[Instance]) -> Tensor:
    """``(U,)`` bool: units that are items of a past, in prompts that list no candidates."""
    free = ["candidates" not in instance.template.slots for instance in instances]
    items = documents.is_entity & (documents.events != NEVER_DROPPED)
    return items & documents.numbers.spread(torch.tensor(free, dtype=torch.bool))


def position_rows(settings: RecsysllmConfig, pool: EntityPool | None) -> PositionRows:
    """Rows of a decoder's tables of positions; without a pool those of entities are unknown.

    As many inter-positions as the longest example has tokens. Of intra-positions [START] and plain
    tokens have one each beside those of the longest entity.
    """
    longest = max(settings.positions.max_tokens, settings.tasks.max_tokens)
    if settings.backbone.max_intra is not None:
        return PositionRows(longest, settings.backbone.max_intra)
    if settings.positions.intra_mode != "paper":  # counted through
        return PositionRows(longest, 2 + settings.positions.max_tokens)
    entity = 0 if pool is None else int(pool.sequences.lengths.max())
    return PositionRows(longest, 2 + entity)


def open_world(
    tables: Tables,
    language: LanguageModel | GlmFiles,
    settings: RecsysllmConfig,
    *,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    origin: Origin | None = None,
) -> World:
    """Read tables and tokenize their entities.

    Args:
        tables: split leave-last-out.
        settings: how; answers become long enough for every item.
        say: told how items are named.
        origin: other tables, which the model that is measured was trained on.

    Raises:
        ConfigError: the tokenizer is not a fast one, windows in days where times are unknown, or an
            item that is longer than a prompt may be.
        DataError: the tables are split in another way or have no titles.
    """
    own = settings.tasks
    families = TaskFamilies.from_tables(tables, own, seed=seed, origin=origin, say=say)
    counts = families.catalogue.counts
    if any(counts.values()):
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        say(f"names of {tables.num_items:,} items: {said}; all names are different")
    if origin is not None:
        known = int(origin.known_users(tables).sum())
        say(f"trained on {origin.name}: {known:,} of {tables.num_users:,} users are in both")
    tokenizer = UnitTokenizer(language.tokenizer)
    pool = EntityPool(tokenizer, families.catalogue.entities())
    longest = pool.longest(ITEM)
    if longest + AROUND_ANSWER >= own.max_tokens:
        raise ConfigError(
            f"model.tasks.max_tokens: {own.max_tokens}, but the name of an item has {longest}; "
            "expected room for it and for what is asked; raise it or lower "
            "model.tasks.max_name_words"
        )
    tasks = own.model_copy(update={"max_answer_tokens": max(longest, own.max_answer_tokens)})
    settings = settings.model_copy(update={"tasks": tasks})
    automaton = Automaton(pool.trie(), settings.positions)
    return World(settings, families, tokenizer, pool, automaton)
