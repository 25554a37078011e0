"""From a run's configuration to tables in memory and a model with its first weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import pad

from legos.config.model_schema import reads_token_vectors
from legos.config.schema import RunConfig
from legos.data.batch import Rows, SequenceRows, SingleRows, TrainingRows
from legos.data.catalogue_rows import CatalogueRows
from legos.data.click_graph import click_graph
from legos.data.cloze import ClozeRows
from legos.data.honesty import read_honesty
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.labelled_rows import LabelledRows
from legos.data.proposed_rows import Proposal, ProposedRows
from legos.data.sampling import NegativeSampler
from legos.data.tables import Tables
from legos.data.vector_files import read_item_codes, read_item_vectors, read_user_vectors
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelEncoder
from legos.item.manner import MannerConfig
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.recommender import Recommender, TokenTable, build_recommender
from legos.sharing import ALONE, Sharing
from legos.workplace.device import share_out
from legos.workplace.known import Known, seen_in_training
from legos.workplace.language import language_model_settings, open_language, refuse_other_width
from legos.workplace.token_tables import token_tables


@dataclass(frozen=True)
class Workplace:
    """What every part of a run works with.

    Attributes:
        profiles: the users' fields, on the device; None where the data YAML names none.
        shapes_only: neither a language model nor its token vectors are read where they are missing.
        trained_on: the tables that these extend; None: they extend none.
    """

    config: RunConfig  # the run's configuration
    accelerator: Accelerator  # device, precision and processes
    tables: Tables  # the data set
    store: ItemStore  # item content, on the device
    train: Interactions  # the training split, on the device
    known: Known  # what it has seen
    profiles: ItemStore | None
    language_model: LanguageModel | None  # that the item encoder stands on; None where it does not
    shapes_only: bool = False
    trained_on: Tables | None = None

    @classmethod
    def open(
        cls,
        config: RunConfig,
        accelerator: Accelerator,
        tables: Tables,
        *,
        say: Callable[[str], None] = lambda text: None,
        shapes_only: bool = False,
    ) -> Workplace:
        """Read items and the training split onto the device.

        ``say`` is told before hidden states of a language model are computed; ``shapes_only``:
        neither a language model nor its hidden states are read.
        """
        device = accelerator.device
        train = read_split(config, tables, config.data.splits.train).to(device)
        known = seen_in_training(train, num_items=tables.num_items, num_users=tables.num_users)
        settings = language_model_settings(config.model)
        model = None
        if settings is not None:
            model = LanguageModel(
                settings.model,
                settings,
                shapes_only=shapes_only,
                bidirectional=settings.bidirectional,
            )
            refuse_other_width(config, model)
        store, profiles = _contents(
            config, tables, accelerator, known, None if shapes_only else model, say
        )
        return cls(config, accelerator, tables, store, train, known, profiles, model, shapes_only)

    @property
    def shares_layers(self) -> bool:
        """Whether each process has a share of every layer of a language model."""
        return self.config.exp.distributed == "fsdp" and self.accelerator.num_processes > 1

    @property
    def sharing(self) -> Sharing:
        """How processes share what is to be scored; none do where they call layers together."""
        return ALONE if self.shares_layers else Sharing.between(self.accelerator)

    def placed(self, model: nn.Module, transformer: Any) -> None:
        """Put a model on the device, or share the layers of its language model out."""
        if self.shares_layers:
            share_out(model, transformer, self.accelerator)
        else:
            model.to(self.accelerator.device)

    def over(self, tables: Tables, *, say: Callable[[str], None] = lambda text: None) -> Workplace:
        """The same for tables that extend these: what they add is unseen."""
        added_items = tables.num_items - self.known.popularity.numel()
        added_users = tables.num_users - self.known.users.numel()
        known = Known(
            pad(self.known.popularity, (0, added_items)),
            pad(self.known.users, (0, added_users)),
            pad(self.known.shown, (0, added_items)),
        )
        model, accelerator = self.language_model, self.accelerator
        store, profiles = _contents(self.config, tables, accelerator, known, model, say)
        return replace(
            self,
            tables=tables,
            store=store,
            known=known,
            profiles=profiles,
            trained_on=self.trained_on or self.tables,
        )

    def split(self, name: str) -> Interactions:
        """Another split, on the device; of tables that extend others, also one of those."""
        tables = self.tables
        if self.trained_on is not None and name not in tables.splits:
            tables = self.trained_on
        return read_split(self.config, tables, name).to(self.accelerator.device)

    def model(self, say: Callable[[str], None] = lambda text: None) -> Recommender:
        """The model of the model YAML over the token vectors of the embed YAML.

        ``say`` is told of vocabulary entries without a pretrained vector.
        """
        config, seed = self.config, self.config.exp.train.seed

        def given(read: Callable[[Path, Tables], Tensor], path: Path | None) -> Tensor | None:
            return None if path is None else read(path, self.tables)

        model = build_recommender(
            config.bricks,
            self.store,
            known=self.known,
            seed=seed,
            tables=self.token_tables(say),
            embedding_dropout=config.embed.dropout,
            profiles=self.profiles,
            item_vectors=given(read_item_vectors, config.embed.item_vectors),
            user_vectors=given(read_user_vectors, config.embed.user_vectors),
            item_codes=given(read_item_codes, config.embed.item_codes),
            click_graph=click_graph(self.train, len(self.store))
            if "click_graph" in config.model.needs
            else None,
            language_model=self.language_model,
        )
        if self.shapes_only:  # some of it may be on the meta device
            return model
        encoders = [each for each in model.modules() if isinstance(each, LanguageModelEncoder)]
        for each in encoders if self.shares_layers else []:
            each.most_calls = 1  # processes' items have different lengths
        self.placed(model, encoders[0].language_model if encoders else model)
        return model

    def token_tables(self, say: Callable[[str], None]) -> Mapping[str, TokenTable]:
        """By vocabulary the pretrained vectors of the embed YAML; none where no brick reads any.

        ``say`` is told of vocabulary entries without one.
        """
        if not reads_token_vectors(self.config.model):
            return {}
        stores = [store for store in (self.store, self.profiles) if store is not None]
        fields = [field for store in stores for field in store.fields.values()]
        embed, seed = self.config.embed, self.config.exp.train.seed
        try:
            return token_tables(embed, self.tables, fields, seed=seed, say=say)
        except ConfigError:
            source = embed.path if isinstance(embed.path, LanguageModelSource) else None
            if not self.shapes_only or source is None or source.shape is None:
                raise
        width = LanguageModel(source, shapes_only=True).table_width
        return {
            field.vocabulary: TokenTable(
                torch.empty(field.size, width, device="meta"), embed.frozen, "shape"
            )
            for field in fields
            if field.is_text and embed.vocabulary in (None, field.vocabulary)
        }

    def training_rows(self) -> Rows:
        """The clicks of the training split, against what ``exp.train.loss`` compares them with."""
        train, cloze = self.config.exp.train, self.config.bricks.user.cloze
        single = self._single_rows()
        rows: Rows = SequenceRows(single, self.train) if train.sequences else single
        if cloze is not None:
            rows = ClozeRows(single, self.train, cloze, seed=train.seed)
        item = self.config.bricks.item
        if isinstance(item, MannerConfig):
            columns, many = self.store.categories, (item.labels, item.items_per_label)
            labels = [columns[name] for name in (columns if item.aspects is None else item.aspects)]
            rows = LabelledRows.of(rows, labels, self.known.shown, *many, seed=train.seed)
        return rows

    def _single_rows(self) -> SingleRows:
        train, negatives = self.config.exp.train, self.config.exp.train.negatives
        offered = self.tables.offered.to(self.train.users.device)
        if train.loss in ("full_softmax", "multinomial"):
            return CatalogueRows(
                self.train,
                offered=offered,
                row="click" if train.loss == "full_softmax" else "impression",
                history=train.history,
            )
        corrected = train.loss == "sampled_softmax"
        if corrected or negatives.shared:
            proposal = Proposal(offered.nonzero()[:, 0])
            if negatives.strategy == "popularity":
                proposal = Proposal.by_clicks(proposal.items, self.train, negatives.power)
            return ProposedRows(
                self.train,
                proposal,
                count=negatives.count,
                seed=train.seed,
                shared=negatives.shared,
                spared="click" if corrected else "history",
                history=train.history,
            )
        sampler = NegativeSampler(
            self.train,
            num_items=len(self.store),
            offered=offered,
            strategy=negatives.strategy,
            count=negatives.count,
            seed=train.seed,
            power=negatives.power,
        )
        return TrainingRows(self.train, sampler, history=train.history)

    def impression_name(self, row: int, rows: Rows) -> str:
        """The raw id of a training row's impression."""
        names = self.tables.vocabulary(self.train.impression_vocabulary)
        return names[int(self.train.impression_ids[rows.impressions[row]])]


def _contents(
    config: RunConfig,
    tables: Tables,
    accelerator: Accelerator,
    known: Known,
    model: LanguageModel | None,
    say: Callable[[str], None],
) -> tuple[ItemStore, ItemStore | None]:
    """On the device what items have and what a language model reads of them, and users' fields."""
    device, users = accelerator.device, config.data.user_fields
    store = ItemStore.from_tables(tables, config.data.fields, seen=known.shown)
    if model is not None:
        store = store.reading(open_language(config, tables, accelerator, model, say))
    if not users:
        return store.to(device), None
    profiles = ItemStore.from_tables(tables, users, table="users", seen=known.users)
    return store.to(device), profiles.to(device)


def read_split(config: RunConfig, tables: Tables, split: str) -> Interactions:
    """One split with the history length of the data YAML."""
    data = config.data
    return Interactions.from_tables(
        tables, split, history_length=data.history_length, generated=data.generated_items
    )


def honesty_notices(tables: Tables) -> list[str]:
    """What the data-honesty report of the tables warns of, a line each."""
    report = read_honesty(tables.manifest)
    if report is None:
        return []
    return [f"warning, data {tables.name}: {warning.text}" for warning in report.warnings]
