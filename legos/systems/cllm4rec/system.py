"""CLLM4Rec as a system: built from a workplace, trained in stages, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from legos.data.batch import clicks_of
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.evaluation.measure import SplitResult
from legos.lm.load import LanguageModel
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.cllm4rec.batches import ContentLM, InteractionLM, RecommendationPrompts
from legos.systems.cllm4rec.corpus import tokenized_corpus, train_items
from legos.systems.cllm4rec.evaluate import UserSession, evaluate
from legos.systems.cllm4rec.model import Assembled, build_cllm4rec
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe, TaskRows
from legos.systems.cllm4rec.recommend import Cllm4RecRecommender
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.stages import Pretrained, Task
from legos.training.recipe import PRETRAINED
from legos.training.saved_state import load_trained
from legos.training.trainer import train
from legos.training.weights import frozen_hashes, seed_everything
from legos.workplace.workplace import Workplace


class Cllm4RecSystem:
    """CLLM4Rec over a data set, see :class:`legos.systems.protocol.System`.

    Args:
        say: told before texts are tokenized.

    Raises:
        ConfigError: sequences that the language model cannot read.
    """

    def __init__(
        self, workplace: Workplace, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.workplace, self._say = workplace, say
        self.settings = Cllm4RecModel.of(workplace.config.model)
        self.language = LanguageModel(self.settings.model, self.settings.backbone)
        self.assembled: Assembled = build_cllm4rec(
            self.language,
            self.settings,
            users=workplace.tables.num_users,
            items=workplace.tables.num_items,
            seed=workplace.config.exp.train.seed,
        )
        self.model = self.assembled.model
        refuse_long(self.settings, self.model.backbone.longest, self.language.name)
        workplace.placed(self.model, self.model.backbone.model)
        self.items: Ragged = train_items(workplace.tables, workplace.train)
        if not self.items.values.numel():
            raise DataError(f"{workplace.tables.folder}: no user has an item in the training split")
        self.prompts = RecommendationPrompts(
            self.items,
            self.assembled.templates,
            self.settings,
            seed=workplace.config.exp.train.seed,
        )

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Warm up, pretrain and finetune, resuming from ``checkpoints/last``."""
        workplace, own = self.workplace, self.workplace.config.exp.train
        rows = self.task_rows(tracker.say)
        seed_everything(own.seed, rank=workplace.accelerator.process_index)
        shared = Pretrained(workplace.config, workplace.tables, folder.checkpoints / PRETRAINED)
        recipe = Cllm4RecRecipe(workplace.accelerator, self.model, rows, own, shared=shared)
        counts = ", ".join(f"{len(found):,} rows of {task}" for task, found in rows.items())
        tracker.say(f"{folder.path}: {self.parameters:,} trained parameters, {counts}")
        some = workplace.split(workplace.config.data.splits.valid)
        if own.stages.valid_users is not None:
            some = some.some(own.stages.valid_users, seed=own.seed)
        trained = train(recipe, lambda: self.evaluate(some, thorough=False), folder, tracker)
        progress = recipe.progress
        seconds = sum(progress.seconds.values())
        return {
            "rows": len(self.prompts.users),
            "texts": len(rows["content"]) if "content" in rows else 0,
            **trained,
            "epochs": progress.epochs,
            "seconds_per_epoch": round(seconds / max(1, progress.epochs), 3),
            "stages": {
                name: {
                    "seconds": round(spent, 3),
                    "tokens": progress.tokens[name],
                    "tokens_per_second": round(progress.tokens[name] / spent),
                }
                for name, spent in progress.seconds.items()
            },
        }

    def load(self, checkpoint: Path) -> str:
        """Load trained tables; returns the id of the run that trained them."""
        frozen = frozen_hashes(self.model.backbone)
        return load_trained(self.model, checkpoint, Cllm4RecRecipe.system, frozen=frozen)

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a split."""
        return evaluate(self.workplace, self.model, self.prompts, interactions, thorough=thorough)

    def recommender(self) -> Cllm4RecRecommender:
        """The loaded weights as a recommender."""
        return Cllm4RecRecommender(
            self.workplace, self.model.eval(), self.prompts, self.assembled.templates
        )

    def session(self, user: str) -> UserSession:
        """Serve one user, by id; train items are read, in the order of prompts at test time.

        Raises:
            DataError: there is no such user.
            ConfigError: the language model is an encoder-decoder, which keeps no prefix.
        """
        names = self.workplace.tables.vocabulary("user_id")
        if user not in names:
            raise DataError(
                f"user {user!r} is none of the {len(names):,} of {self.workplace.tables.folder}; a "
                "new user has no token before the model is trained again"
            )
        number, never = names.index(user), []
        if self.settings.recommendation.exclude == "train+valid":
            valid = self.workplace.split(self.workplace.config.data.splits.valid)
            clicked = clicks_of(valid)
            never = clicked.values[clicked.spread(valid.users) == number].tolist()
        own = self.items.row(number)
        return UserSession(self.model, self.assembled.templates, number, own, never=never)

    def task_rows(self, say: Callable[[str], None]) -> dict[Task, TaskRows]:
        """The rows of every task that has passes; tokenizes missing texts."""
        settings, seed = self.settings, self.workplace.config.exp.train.seed
        templates = self.assembled.templates
        users = InteractionLM(self.items, templates, settings, seed=seed)
        rows: dict[Task, TaskRows] = {
            "collaborative": users,
            "recommendation": self.prompts,
        }
        if settings.content.enabled:
            with self.workplace.accelerator.main_process_first():  # the others find it written
                corpus = tokenized_corpus(
                    self.workplace, settings, self.assembled.tokenizer, self.language, say
                )
            rows["content"] = ContentLM(
                corpus.kinds, corpus.users, corpus.items, corpus.texts, templates, settings
            )
        return rows


def refuse_long(settings: Cllm4RecModel, longest: int | None, name: str) -> None:
    """Raise ConfigError if sequences may be longer than the language model can read."""
    if longest is not None and settings.max_length > longest:
        raise ConfigError(
            f"model.max_length: {settings.max_length}, but {name} reads at most {longest} tokens"
        )
