"""Language models of a run: what they read of the items, and the caches of what is below a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from legos.config.model_schema import ModelConfig, SystemModel, reads_token_vectors
from legos.config.schema import RunConfig
from legos.content import content_of_all
from legos.data.items import LanguageInput
from legos.data.new_items import NewItems
from legos.data.ragged import Ragged, from_lengths, stack
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.files import sha256_of_text
from legos.item.iisan import IISANConfig
from legos.item.language_model import LanguageModelConfig, LanguageModelSettings
from legos.item.text_vectors import TextVectorsConfig
from legos.lm.hidden_cache import HiddenCache, HiddenStates
from legos.lm.hidden_files import CachedPart
from legos.lm.hidden_writer import write_parts
from legos.lm.load import LanguageModel
from legos.lm.sentence import SentenceHead, shipped_files
from legos.lm.settings import Dtype as Precision
from legos.lm.states import FINAL, PER_ITEM, POOLED, TOKENS, StateReader, layer_name
from legos.lm.text_model import DTYPES
from legos.lm.verify import (
    Tried,
    is_verified,
    note_verified,
    some_items,
    states_at,
    try_kind,
    verify_items,
)
from legos.progress import progress_bar
from legos.registry import bricks_in
from legos.sharing import ALONE, Sharing
from legos.terminal import shown_bytes
from legos.workplace.item_template import template_for

_COMPUTING = ("torch", "transformers")  # whose major versions may compute other states
_STATES_VERSION = 1  # of what is computed; another is another cache


def language_model_settings(model: SystemModel) -> LanguageModelSettings | None:
    """The settings of the brick that stands on a language model, also inside another brick."""
    if not isinstance(model, ModelConfig):
        return None
    return next((settings for _, settings in language_bricks(model)), None)


def language_bricks(model: ModelConfig) -> Iterator[tuple[str, LanguageModelSettings]]:
    """Yield dotted key and settings of the item encoder's bricks that read a language model."""
    for key, brick in bricks_in(model):
        if key.split(".")[0] == "item" and isinstance(brick, LanguageModelSettings):
            yield key, brick


def no_language_model(model: ModelConfig) -> ConfigError:
    """The error of who needs one."""
    return ConfigError(
        f"model {model.name}: its item encoder {model.item.name!r} uses no language model; "
        "choose one of the bert-, llama-, ... models"
    )


def refuse_other_width(config: RunConfig, model: LanguageModel) -> None:
    """Raise ConfigError where ``embed_hidden_size`` is not the language model's width.

    With a language model as item encoder the embed YAML has no other vectors to tell of, unless
    texts of users are read, too: those then have the width of their own vectors.
    """
    width = config.embed.embed_hidden_size
    if width in (None, model.width):
        return
    if reads_token_vectors(config.model) and (
        config.embed.source != "random" or width == config.bricks.hidden_size
    ):
        return
    raise ConfigError(
        f"embed.embed_hidden_size: {width}, but language model {model.name} is {model.width} wide; "
        f"give --embed_hidden_size {model.width} or none"
    )


def try_language_model(settings: LanguageModelSettings, model: LanguageModel) -> Tried:
    """What the settings ask of a model, by :func:`legos.lm.verify.try_kind`."""
    if not isinstance(settings, LanguageModelConfig):
        return try_kind(model.config, name=model.name, pooled=True)
    return try_kind(
        model.config,
        name=model.name,
        layer=model.layer(settings.layer) if settings.layer else 0,
        lora=settings.lora_rank > 0,
        targets=settings.lora_targets,
    )


@dataclass(frozen=True)
class Reading:
    """What a language model reads of a data set, and where its states are cached."""

    settings: LanguageModelSettings  # of the brick
    language_model: LanguageModel  # that reads
    tokens: Ragged  # ids of every item
    cache: HiddenCache  # of its states
    precision: Precision  # that the states are computed in, as those of a training step

    @classmethod
    def of(cls, config: RunConfig, tables: Tables, model: LanguageModel) -> Reading:
        """Tokenize the items and find their cache.

        Raises:
            ConfigError: the model YAML has no language model, or a text is too long for it.
        """
        settings = language_model_settings(config.model)
        if settings is None:
            raise no_language_model(config.bricks)
        try_language_model(settings, model)
        read = template_for(settings, model, config.data, tables)
        tokens = model.read(read)
        names = tables.vocabulary("item_id")
        facts = {
            "version": _STATES_VERSION,
            "data": config.data.name,
            "model": model.name,
            "weights": model.fingerprint,
            "weights_dtype": model.dtype,
            "quantised": model.quantised,
            "libraries": [f"{each} {version(each).split('.')[0]}" for each in _COMPUTING],
            "precision": config.exp.precision,
            "tokenizer": model.tokenizer_fingerprint,
            "opening": read.opening,
            "fields": [[field.name, field.prompt, field.length] for field in read.fields],
            "items": sha256_of_text("\n".join(names)),
            "texts": tokens_fingerprint(tokens),
            "dtype": settings.stored_dtype,
        }
        if settings.bidirectional:
            facts["bidirectional"] = True
        if isinstance(settings, TextVectorsConfig) and settings.head_of(model) is not None:
            facts["head"] = content_of_all(shipped_files(model).files)
        folder = config.exp.cache.folder / model.name
        cache = HiddenCache(folder, facts, tokens=tokens, names=names)
        return cls(settings, model, tokens, cache, config.exp.precision)

    @property
    def dtype(self) -> str:
        """Of cached states."""
        return self.settings.stored_dtype

    def part(self) -> CachedPart | None:
        """What the brick reads from a cache; None where it reads token ids."""
        return part_read(self.settings, self.language_model)

    def pooled(self) -> CachedPart:
        """The mean-pooled states of all layers."""
        return _pooled(self.language_model)

    def layer(self, number: int) -> CachedPart:
        """The states at a layer; negative numbers count from the end."""
        return _layer(self.language_model, number)

    def write(
        self,
        parts: Sequence[CachedPart],
        device: torch.device,
        *,
        batch_tokens: int,
        sharing: Sharing = ALONE,
    ) -> None:
        """Compute and store what is missing of the parts, in one pass of all that share it.

        Raises:
            ConfigError: the model cut at one of the layers is not the whole model.
        """
        finished = sharing.first(self.cache.parts)
        missing = [part for part in parts if part.name not in finished]
        if not missing:
            return
        model = self.language_model.load().to(device)
        names = {part.name for part in missing}
        layers = [_layer_number(part) for part in missing if part.name not in PER_ITEM]
        reader = StateReader(
            model,
            layers=layers,
            pooled=POOLED in names,
            final=FINAL in names,
            head=_head(self.settings, self.language_model, device),
            batch_tokens=batch_tokens,
        )
        notes: dict[int, Callable[[Path], None]] = {}  # in the first process
        with self._computing(device):
            sharing.first(
                lambda: notes.update({layer: self._verify(model, layer) for layer in layers})
            )
            with progress_bar("caching hidden states", self.tokens.values.numel()) as bar:
                write_parts(
                    self.cache,
                    self.tokens,
                    missing,
                    reader,
                    dtype=self.dtype,
                    advance=bar.advance,
                    sharing=sharing,
                )
        for layer, note in notes.items():
            note(self.cache.path / layer_name(layer))

    def verify(self, part: CachedPart, device: torch.device) -> None:
        """Compare a finished layer with the whole model, unless that was done before.

        Raises:
            ConfigError: the kept layers do not give what the whole model gives.
        """
        folder = self.cache.path / part.name
        if part.name in PER_ITEM or is_verified(folder):
            return
        layer = _layer_number(part)
        model = self.language_model.load().to(device)
        with self._computing(device):
            self._verify(model, layer, self.cache.open(part.name))(folder)

    def _computing(self, device: torch.device) -> torch.autocast:
        return computing(device, self.precision)

    def _verify(
        self, model: nn.Module, layer: int, cached: HiddenStates | None = None
    ) -> Callable[[Path], None]:
        """Run some items whole and from a layer on; returns what notes it in a folder."""
        items = some_items(self.tokens)
        tokens = self.tokens.select(items)
        if not len(items):
            return lambda folder: None
        if cached is None:
            states = states_at(model, tokens, layer).to(DTYPES[self.dtype])
        else:
            states = cached.select(items).values
        if not torch.isfinite(states).all():
            return lambda folder: None  # whoever writes them names the items
        found = verify_items(
            model,
            layer,
            tokens,
            states,
            name=self.language_model.name,
            dtypes={self.dtype, self.precision, self.language_model.dtype},
        )
        return lambda folder: note_verified(folder, found, len(items))


def part_read(settings: LanguageModelSettings, model: LanguageModel) -> CachedPart | None:
    """What a brick reads from a cache; None where it reads token ids."""
    if isinstance(settings, IISANConfig):
        return _pooled(model)
    if isinstance(settings, TextVectorsConfig):
        return CachedPart(FINAL, settings.vector_width(model), "item")
    if isinstance(settings, LanguageModelConfig) and settings.layer:
        return _layer(model, settings.layer)
    return None


def _head(
    settings: LanguageModelSettings, model: LanguageModel, device: torch.device
) -> SentenceHead | None:
    """What makes an item's vector of final states; None: their mean."""
    head = settings.head_of(model) if isinstance(settings, TextVectorsConfig) else None
    return None if head is None else head.to(device)


def _pooled(model: LanguageModel) -> CachedPart:
    return CachedPart(POOLED, (model.num_layers + 1) * model.width, "item")


def _layer(model: LanguageModel, number: int) -> CachedPart:
    return CachedPart(layer_name(model.layer(number)), model.width, "token")


def _layer_number(part: CachedPart) -> int:
    return int(part.name.removeprefix("layer_"))


def computing(device: torch.device, precision: Precision) -> torch.autocast:
    """The precision that states are computed in, as those of a training step."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def language_of_new_items(
    config: RunConfig,
    tables: Tables,
    model: LanguageModel,
    known: Mapping[str, LanguageInput],
    items: NewItems,
    device: torch.device,
) -> dict[str, LanguageInput]:
    """What the brick reads of every item, by name, with new ones behind those that are known.

    Where states below a cut are cached, the whole model computes those of the new items.

    Raises:
        ConfigError: an item is too long for the language model.
    """
    settings = language_model_settings(config.model)
    if settings is None:
        raise no_language_model(config.bricks)
    tokens = model.read(template_for(settings, model, config.data, tables, items))
    part = part_read(settings, model)
    if part is None:
        before = known[TOKENS]
        if not isinstance(before, Ragged):
            raise TypeError(f"{TOKENS}: {type(before).__name__}, expected lists of ids")
        return {TOKENS: stack([before, tokens.to(before.values.device)])}
    states = known[part.name]
    if not isinstance(states, HiddenStates):
        raise TypeError(f"{part.name}: {type(states).__name__}, expected cached states")
    one_row = part.name in PER_ITEM
    reader = StateReader(
        model.load().to(device),
        layers=() if one_row else (_layer_number(part),),
        pooled=part.name == POOLED,
        final=part.name == FINAL,
        head=_head(settings, model, device),
        batch_tokens=config.exp.cache.batch_tokens,
    )
    with computing(device, config.exp.precision):
        values = reader(tokens)[part.name]
    lengths = torch.ones_like(tokens.lengths) if one_row else tokens.lengths
    return {part.name: states.extended(from_lengths(values.cpu(), lengths))}


def tokens_fingerprint(tokens: Ragged) -> str:
    """SHA-256 over the token ids of every item."""
    text = tokens.values.numpy().tobytes().hex() + tokens.offsets.numpy().tobytes().hex()
    return sha256_of_text(text)


def open_language(
    config: RunConfig,
    tables: Tables,
    accelerator: Accelerator,
    model: LanguageModel,
    say: Callable[[str], None],
) -> dict[str, LanguageInput]:
    """What the brick reads of every item, by name; a missing cache is made after saying so."""
    reading = Reading.of(config, tables, model)
    part = reading.part()
    if part is None:
        return {TOKENS: reading.tokens}
    sharing = Sharing.between(accelerator)
    reason = sharing.first(lambda: reading.cache.why_missing(part.name))
    if reason is not None:
        size = reading.cache.size(reading.tokens, [part], reading.dtype)
        say(f"{reason}; caching {part.name} of {model.name} now, {shown_bytes(size)}")
        batch_tokens = config.exp.cache.batch_tokens
        reading.write([part], accelerator.device, batch_tokens=batch_tokens, sharing=sharing)
    else:
        sharing.first(lambda: reading.verify(part, accelerator.device))
    return {part.name: reading.cache.open(part.name)}
