"""What the sections of ``benchmarks/dire.py`` share: options, data, models, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.data.batch import Batch, TrainingRows
from legos.data.items import ItemStore, LanguageInput
from legos.data.ragged import Ragged
from legos.data.sampling import NegativeSampler
from legos.data.tables import Tables
from legos.errors import ConfigError, nearest
from legos.item.language_model import LanguageModelConfig
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import CachedPart
from legos.lm.hidden_writer import write_parts
from legos.lm.load import LanguageModel
from legos.lm.states import TOKENS, StateReader
from legos.lm.text_model import layer_stack
from legos.recommender import build_recommender
from legos.registry import item_encoders
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.stream import Stream
from legos.training.trainer import take_step
from legos.workplace.device import make_accelerator
from legos.workplace.known import seen_in_training
from legos.workplace.language import Reading
from legos.workplace.workplace import read_split


@dataclass(frozen=True)
class Options:
    """The command line; ``python -m benchmarks.dire --help`` says what each means."""

    only: list[str]
    llm_ver: str
    tables: Path | None
    data: str
    fields: list[str]
    device: str
    precision: str
    tuning: str
    layer: int
    batch_size: int
    page_size: int
    items: int
    repeat: int
    quick: bool
    folder: Path
    json: Path | None
    shape: str | None
    length: int
    batch_tokens: int
    peak_tflops: float
    alone: list[str]


def run_config(options: Options) -> RunConfig:
    """The run that ``worker.py`` would make of config/model/bert-naml.yaml with these options.

    Raises:
        ConfigError: no such field, language model or device.
    """
    rank = {"lora": "32", "full": "0", "frozen": "0"}[options.tuning]
    weights = "fp32" if options.tuning == "full" else options.precision
    arguments = ["--data", options.data, "--model", "bert-naml", "--exp", "tt-llm"]
    arguments += ["--llm_ver", options.llm_ver, "--lora", rank, "--llm_dtype", weights]
    arguments += ["--frozen", str(options.tuning == "frozen").lower()]
    arguments += ["--layer", "0", "--acc_batch", "1", "--batch_size", str(options.batch_size)]
    arguments += ["--cache_dtype", options.precision, "--data.folder", str(options.tables)]
    config = load_run_config(arguments, notice=lambda text: None)
    known = {field.name: field for field in config.data.fields}
    for name in options.fields:
        if name not in known:
            raise ConfigError(f"--fields: unknown field {name!r}; {nearest(name, known)}")
    fields = tuple(known[name] for name in options.fields)
    return config.model_copy(update={"data": config.data.model_copy(update={"fields": fields})})


class Setting:
    """Items and clicks, a language model, and trainings of NAML over it.

    Args:
        options: the command line.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.config = options, run_config(options)
        self.accelerator = make_accelerator(
            device=options.device, precision=options.precision, deterministic=False
        )
        self.device = self.accelerator.device
        self.tables = Tables.load(self.config.data.folder)
        settings = self.config.bricks.item
        assert isinstance(settings, LanguageModelConfig)
        self.settings = settings
        self.reading = self.read(self.config)
        self.language_model, self.tokens = self.reading.language_model, self.reading.tokens
        self.num_layers = self.language_model.num_layers

    def read(self, config: RunConfig) -> Reading:
        """Token ids of the items in the fields of a configuration."""
        model = LanguageModel(self.settings.model, self.settings)
        return Reading.of(config, self.tables, model)

    @cached_property
    def rows(self) -> TrainingRows:
        """The clicks of the training split with their negatives, on the device."""
        split = read_split(self.config, self.tables, self.config.data.splits.train)
        train = self.config.exp.train
        sampler = NegativeSampler(
            split.to(self.device),
            num_items=self.tables.num_items,
            strategy=train.negatives.strategy,
            count=train.negatives.count,
            seed=train.seed,
        )
        return TrainingRows(split.to(self.device), sampler)

    @cached_property
    def store(self) -> ItemStore:
        """The items, without what a language model reads of them."""
        return ItemStore.from_tables(self.tables, self.config.data.fields)

    def training(
        self,
        layer: int,
        language: Mapping[str, LanguageInput],
        *,
        batch_size: int | None = None,
        page_size: int = 0,
        without_layers: bool = False,
        rows: TrainingRows | None = None,
    ) -> BricksRecipe:
        """A training as ``worker.py`` would start it.

        Args:
            layer: at which the language model is cut; 0: not at all.
            language: what it reads of the items.
            batch_size: clicks a step; None: that of the options.
            page_size: items encoded at once (``exp.train.item_page_size``); 0: all.
            without_layers: take every layer out of the language model, so that a step is only
                what lies around them.
            rows: other rows than the clicks of Goodreads.
        """
        item = item_encoders.validate({**self.settings.model_dump(), "layer": layer})
        model = build_recommender(
            self.config.model.model_copy(update={"item": item}),
            self.store,
            known=seen_in_training(
                self.rows.interactions,
                num_items=self.tables.num_items,
                num_users=self.tables.num_users,
            ),
            seed=1,
            language_model=self.language_model,
        )
        if without_layers:
            take_layers_out(model.item_encoder.get_submodule("language_model"))
        changed = {
            "batch_size": batch_size or self.options.batch_size,
            "item_page_size": page_size,
        }
        training = BricksRecipe(
            self.accelerator,
            model,
            self.store.reading(language).to(self.device),
            rows or self.rows,
            self.config.exp.train.model_copy(update=changed),
        )
        training.model.train()
        return training

    def batches(self, count: int, batch_size: int) -> list[Batch]:
        """The first batches that every training of that batch size goes through."""
        train = self.config.exp.train
        stream = Stream(
            num_rows=len(self.rows),
            batch_size=batch_size,
            acc_batch=1,
            epoch_batch=train.epoch_batch,
            seed=train.seed,
        )
        every = (stream.rows(step).micro_batches[0] for step in range(count))
        return [self.rows.batch(rows, pass_number=0) for rows in every]

    def needed_tokens(self, batches: list[Batch]) -> Ragged:
        """Token ids of the items of some batches; all other items are empty."""
        needed = torch.zeros(len(self.tokens), dtype=torch.bool)
        needed[torch.cat([batch.items for batch in batches]).cpu()] = True
        lengths = self.tokens.lengths * needed
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        return Ragged(self.tokens.values[needed[self.tokens.rows]], offsets)

    def part(self, layer: int) -> CachedPart:
        """The cached states at a layer."""
        return self.reading.layer(layer)

    def cache(self, folder: Path, tokens: Ragged) -> HiddenCache:
        """An empty cache for some token ids."""
        return HiddenCache(
            folder, {**self.reading.cache.facts, "texts": "benchmark"}, tokens=tokens
        )

    def reader(self, layers: list[int]) -> StateReader:
        """The uncut language model on the device, keeping the states at some layers."""
        model = self.language_model.load().to(self.device)
        return StateReader(model, layers=layers, batch_tokens=self.options.batch_tokens)

    def cached(self, folder: Path, tokens: Ragged, layers: list[int]) -> dict[int, LanguageInput]:
        """Layer -> the states there, written to real files and opened again."""
        cache = self.cache(folder, tokens)
        parts = [self.part(layer) for layer in layers]
        write_parts(cache, tokens, parts, self.reader(layers), dtype=self.reading.dtype)
        return {layer: cache.open(part.name) for layer, part in zip(layers, parts, strict=True)}

    def seconds(self, function: Callable[[], object]) -> float:
        """How long a call takes: CPU seconds on one thread, seconds of the wall clock otherwise.

        CPU seconds leave out what other processes of the machine take.
        """
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        wait(self.device)
        begin = clock()
        function()
        wait(self.device)
        return clock() - begin

    def wall_seconds(self, function: Callable[[], object]) -> float:
        """How long a call takes, disks included."""
        return wait_seconds(self.device, function)


def take_layers_out(model: nn.Module) -> None:
    """Leave what lies around the layers, and a parameter that tells its precision."""
    dtype = next(model.parameters()).dtype
    model.set_submodule(layer_stack(model)[0], nn.ModuleList())
    model.precision = nn.Parameter(torch.zeros(1, dtype=dtype), requires_grad=False)


def step_at(training: BricksRecipe, number: int) -> Callable[[], object]:
    """Step ``number`` of a training, to be taken as often as one likes."""

    def step() -> float:
        training.progress.step = number
        return take_step(training, [False, False])[0]["loss"]

    return step


def wait_seconds(device: torch.device, function: Callable[[], object]) -> float:
    """Seconds of the clock on the wall until the device is done."""
    wait(device)
    begin = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - begin


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reads_tokens(tokens: Ragged) -> dict[str, LanguageInput]:
    """What an uncut language model reads."""
    return {TOKENS: tokens}


def verdict(holds: bool) -> str:
    """How a target is reported."""
    return "PASS" if holds else "MISS"


def with_fields(options: Options, fields: list[str]) -> Options:
    """The same options for other fields."""
    return replace(options, fields=fields)
