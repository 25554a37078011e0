"""TIGER as a system: codes of the items, training, lists, scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from legos.data.interactions import Interactions
from legos.errors import CheckpointError, DataError
from legos.evaluation.measure import SplitResult, evaluating
from legos.runs.checkpoint import Checkpoint, has_checkpoint, read_checkpoint
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.tiger.evaluate import measured, refuse_unlisted
from legos.systems.tiger.model import Tiger
from legos.systems.tiger.quantiser import Quantiser, SemanticIds, further_codes, semantic_ids
from legos.systems.tiger.recipe import TigerRecipe, TrainingRows
from legos.systems.tiger.recommend import TigerRecommender
from legos.systems.tiger.settings import TigerModel
from legos.systems.tiger.texts import refuse_words, text_vectors_of_items
from legos.systems.tiger.writer import Writer, user_tokens
from legos.training.recipe import LAST, TrainedRecord
from legos.training.saved_state import take_trained
from legos.training.trainer import train
from legos.training.weights import below, seed_everything
from legos.workplace.workplace import Workplace

_QUANTISER, _LEAST_LAST = "quantiser.", 2


class TigerSystem:
    """TIGER over a data set, see :class:`legos.systems.protocol.System`.

    The network is made when the codes of the items are known: in training, or of a checkpoint.

    Raises:
        ConfigError: metrics that lists of items do not have.
        DataError: the items have no text.
    """

    def __init__(
        self, workplace: Workplace, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.workplace, self.say = workplace, say
        self.settings = TigerModel.of(workplace.config.model)
        refuse_unlisted(workplace)
        tables = workplace.tables
        if not tables.text_fields:
            raise DataError(
                f"{tables.folder}: the items have no text field, of which model "
                f"{workplace.config.model.name} makes codes; take a model on ids, such as sasrec_id"
            )
        names = tables.vocabulary("user_id")
        tokens = user_tokens(names[: tables.num_users], self.settings.users)
        self.users = tokens.to(workplace.accelerator.device)
        self.model: Tiger | None = None

    @property
    def parameters(self) -> int:
        """Number of trained weights; 0 before the codes are known."""
        return 0 if self.model is None else sum(p.numel() for p in self.model.parameters())

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Make codes, then train to the last epoch or until early stopping."""
        workplace, last = self.workplace, folder.checkpoints / LAST
        if workplace.sharing.first(lambda: has_checkpoint(last)):
            ids = _ids_in(read_checkpoint(last, TrainedRecord), last)
        else:
            ids = self.make_codes(tracker.say)
        recipe = self.recipe(ids)
        rows, own = recipe.rows, workplace.config.exp.train
        tracker.say(
            f"{folder.path}: {self.parameters:,} trained parameters, {len(rows.items):,} next "
            f"items in {rows.units:,} sequences, {recipe.stream.steps_per_epoch:,} steps per epoch"
        )
        valid = workplace.split(workplace.config.data.splits.valid)
        if self.settings.valid_users:
            valid = valid.some(self.settings.valid_users, seed=own.seed)
        trained = train(recipe, lambda: self.evaluate(valid, thorough=False), folder, tracker)
        progress = recipe.progress
        epochs = max(1, progress.step) / recipe.stream.steps_per_epoch
        return {
            "rows": len(rows.items),
            "steps_per_pass": recipe.stream.steps_per_pass,
            **trained,
            "epochs": progress.epoch,
            "seconds_per_epoch": round(progress.seconds / epochs, 3),
        }

    def make_codes(self, say: Callable[[str], None]) -> SemanticIds:
        """Make the codes of all items in the first process, for all processes."""
        workplace, own = self.workplace, self.settings.codes
        vectors = text_vectors_of_items(workplace, self.settings.model)

        def make() -> dict[str, Tensor]:
            found = semantic_ids(vectors, own, seed=workplace.config.exp.train.seed, say=say)
            counts = found.codes[:, :-1].unique(dim=0, return_counts=True)[1]
            say(
                f"codes: {len(counts):,} different tuples of {own.levels} for {len(vectors):,} "
                f"items, at most {int(counts.max()):,} items with the same"
            )
            buffers = found.quantiser.state_dict().items()
            return {"codes": found.codes, **{_QUANTISER + name: each for name, each in buffers}}

        made = workplace.sharing.first(make)
        return SemanticIds(made["codes"], Quantiser.from_tensors(below(made, _QUANTISER)))

    def recipe(self, ids: SemanticIds) -> TigerRecipe:
        """The training of a newly initialised network."""
        workplace, own = self.workplace, self.workplace.config.exp.train
        model = self._build(ids)
        seed_everything(own.seed, rank=workplace.accelerator.process_index)
        rows = TrainingRows(workplace.train, self.users, whole=self.settings.reads == "causal")
        return TigerRecipe(workplace.accelerator, model, rows, own)

    def _build(self, ids: SemanticIds, last_size: int | None = None) -> Tiger:
        """A newly initialised network."""
        seed_everything(self.workplace.config.exp.train.seed, rank=0)
        books = [getattr(ids.quantiser, f"codebook_{n}") for n in range(ids.quantiser.levels)]
        last = last_size or max(_LEAST_LAST, int(ids.codes[:, -1].max()) + 1, len(books[0]))
        sizes = [*map(len, books), last]
        self.model = Tiger(self.settings, ids.codes, sizes, ids.quantiser)
        self.workplace.placed(self.model, self.model)
        return self.model

    def load(self, checkpoint: Path) -> str:
        """Load trained weights; items that training did not have get codes."""
        found = read_checkpoint(checkpoint, TrainedRecord)
        ids = _ids_in(found, checkpoint)
        rows = len(found.model["table"])
        books = sum(len(each) for name, each in found.model.items() if ".codebook_" in name)
        model = self._build(ids, last_size=rows - books - 1 - self.settings.users)
        run = take_trained(model, found, checkpoint, TigerRecipe.system)
        if len(ids.codes) < self.workplace.tables.num_items:
            refuse_words(self.workplace, self.settings.model)
            vectors = text_vectors_of_items(self.workplace, self.settings.model)
            new = self.workplace.sharing.first(lambda: vectors[len(ids.codes) :])
            model.extend(further_codes(ids.codes, ids.quantiser(new)))
        return run

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Measure a split: lists over all items, or scores of shown candidates."""
        model = self._trained
        with evaluating(model):
            writer = self._writer(model)
            return measured(self.workplace, writer, self.users, interactions, thorough=thorough)

    def recommender(self) -> TigerRecommender:
        """The loaded weights as a recommender."""
        return TigerRecommender(self.workplace, self._trained.eval(), self.users)

    def _writer(self, model: Tiger) -> Writer:
        offered = self.workplace.tables.offered.nonzero()[:, 0]
        return Writer(model, offered.to(self.workplace.accelerator.device))

    @property
    def _trained(self) -> Tiger:
        if self.model is None:
            raise ValueError("neither trained nor loaded")
        return self.model


def _ids_in(found: Checkpoint, folder: Path) -> SemanticIds:
    """Read the codes and their quantiser from a checkpoint.

    Raises:
        CheckpointError: it has none.
    """
    if "codes" not in found.model:
        raise CheckpointError(f"{folder}: has no codes of items; it is no checkpoint of tiger")
    tensors = below(found.model, _QUANTISER)
    return SemanticIds(found.model["codes"], Quantiser.from_tensors(tensors))


def show(workplace: Workplace, console: Console, new_data: bool, processes: Sequence[int]) -> None:
    """Print sizes; the last code's number of values is known once codes are made."""
    del new_data, processes
    own = TigerSystem(workplace).settings
    size = min(own.codes.size, workplace.tables.num_items)
    levels = own.codes.levels
    codes = torch.zeros(1, levels + 1, dtype=torch.int64)
    model = Tiger(own, codes, [size] * (levels + 1), Quantiser([], []))
    count = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"{count:,} parameters; an item is {levels} of {size:,} codes ({own.codes.method}) and one "
        f"that tells equal ones apart; {own.layers} + {own.layers} layers of {own.width}, encoder "
        f"{own.reads}"
    )
