"""RecSysLLM as a system: built from a workplace, trained, measured by prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from legos.data.interactions import Interactions
from legos.errors import ConfigError
from legos.evaluation.measure import SplitResult
from legos.metrics import parse_metric
from legos.runs.checkpoint import read_checkpoint
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, build_backbone, open_language
from legos.systems.recsysllm.catalogue import Origin
from legos.systems.recsysllm.evaluate import SplitMeasure
from legos.systems.recsysllm.measure import chosen_templates
from legos.systems.recsysllm.recipe import (
    InfillRecipe,
    TrainingStream,
    fit_positions,
    refuse_without_inter,
)
from legos.systems.recsysllm.recommend import RecsysllmRecommender
from legos.systems.recsysllm.settings import RecsysllmModel
from legos.systems.recsysllm.world import open_world, position_rows
from legos.training.recipe import TrainedRecord
from legos.training.saved_state import take_trained
from legos.training.trainer import train
from legos.training.weights import seed_everything
from legos.workplace.workplace import Workplace

_LIST_METRICS = ("HR", "Recall", "nDCG")


class RecsysllmSystem:
    """RecSysLLM over a data set, see :class:`legos.systems.protocol.System`.

    Args:
        say: told how items are named.

    Raises:
        ConfigError: metrics that lists of beams do not have, prompts without data, or more tokens
            than the language model reads.
        DataError: the tables are not split leave-last-out or have no titles.
    """

    def __init__(
        self, workplace: Workplace, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.workplace, self.settings = workplace, RecsysllmModel.of(workplace.config.model)
        refuse_unfit(workplace, self.settings)
        seed, own = workplace.config.exp.train.seed, self.settings.backbone
        language = open_language(self.settings.model, own, seed=seed)
        refuse_long(self.settings, language.longest, language.name)
        self.origin = Origin.of_run(workplace.config.exp.load, workplace.tables)
        self.world = open_world(
            workplace.tables, language, self.settings, seed=seed, say=say, origin=self.origin
        )
        chosen_templates(self.world)  # a wrong name is told before training
        rows = position_rows(self.settings, self.world.pool)
        self.backbone = build_backbone(language, own, rows=rows, seed=seed)
        workplace.placed(self.backbone, self.backbone.inner)
        self._measure = SplitMeasure(workplace, self.backbone, self.world)

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.backbone.parameters() if p.requires_grad)

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train on the mixture, resuming from ``checkpoints/last``."""
        own = self.workplace.config.exp.train
        seed_everything(own.seed, rank=self.workplace.accelerator.process_index)
        stream = TrainingStream(self.world, self.backbone.special, own)
        recipe = InfillRecipe(self.workplace.accelerator, self.backbone, stream, self.settings, own)
        names, (_, steps) = ", ".join(stream.mixture.names), recipe.span()
        tracker.say(
            f"{folder.path}: {self.parameters:,} trained parameters, {steps:,} steps of "
            f"{stream.size} examples: {names}; {own.infill_share:.0%} histories with blanks"
        )
        valid = self.workplace.split(self.workplace.config.data.splits.valid)
        trained = train(recipe, lambda: self._measure(valid, thorough=False), folder, tracker)
        progress = recipe.progress
        return {
            "rows": len(stream.mixture),
            "steps_per_pass": stream.steps_per_pass,
            **trained,
            "epochs": progress.epochs,
            "seconds_per_epoch": round(progress.seconds / max(1, progress.epochs), 3),
            "tokens": progress.tokens,
            "targets": progress.targets,
            "tokens_per_second": round(progress.tokens / max(1e-9, progress.seconds)),
            "tasks": stream.mixture.names,
            "titles": dict(self.world.families.catalogue.counts),
        }

    def load(self, checkpoint: Path) -> str:
        """Load weights trained on these or other tables; returns the id of the run."""
        found = read_checkpoint(checkpoint, TrainedRecord)
        if isinstance(self.backbone, DecoderBackbone):
            refuse_without_inter(found, checkpoint)
            if self.origin is not None:
                fit_positions(self.backbone, found)
        return take_trained(self.backbone, found, checkpoint, InfillRecipe.system)

    def recommender(self) -> RecsysllmRecommender:
        """The loaded weights as a recommender."""
        self.backbone.eval()
        return RecsysllmRecommender(self.workplace, self.backbone, self.world)

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Measure a split with every prompt that was chosen."""
        return self._measure(interactions, thorough=thorough)


def refuse_unfit(workplace: Workplace, settings: RecsysllmModel) -> None:
    """Raise ConfigError for settings that this system does not support."""
    config, own = workplace.config.exp, settings.measure
    beams = own.beams
    if config.evaluate.ranking != "all":
        raise ConfigError(
            "exp.evaluate.ranking: recsysllm writes items out of all; expected all, as in "
            "config/exp/recsysllm.yaml"
        )
    watched = config.train.metric
    tested = [("exp.evaluate.metrics", name) for name in config.evaluate.metrics]
    for key, name, setting, kept in [
        *((*each, "beams", beams) for each in [*tested, ("exp.train.metric", watched)]),
        ("exp.train.metric", watched, "valid_beams", own.valid_beams),
    ]:
        metric = parse_metric(name)
        short = (metric.k or 0) > kept and (setting != "beams" or own.search == "beams")
        if metric.kind not in _LIST_METRICS or short:
            raise ConfigError(
                f"{key}: {name}: a search with {kept} beams gives lists of {kept} items; expected "
                f"HR@k, Recall@k or nDCG@k with k up to that, or more model.measure.{setting}"
            )
    if own.search == "beams" and (config.evaluate.beyond_accuracy_k or 0) > beams:
        raise ConfigError(
            f"exp.evaluate.beyond_accuracy_k: {config.evaluate.beyond_accuracy_k}, but lists have "
            f"model.measure.beams {beams} items"
        )


def refuse_long(settings: RecsysllmModel, longest: int | None, name: str) -> None:
    """Raise ConfigError if sequences may be longer than the language model can read."""
    for key, count in [
        ("positions.max_tokens", settings.positions.max_tokens),
        ("tasks.max_tokens", settings.tasks.max_tokens),
        ("measure.max_tokens", settings.measure.max_tokens),
    ]:
        if longest is not None and count > longest:
            raise ConfigError(f"model.{key}: {count}, but {name} reads at most {longest} tokens")
