"""What a language model makes of packed texts: states at chosen layers, or one vector a text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from legos.content import content_of
from legos.data.ragged import Ragged, from_rows
from legos.errors import ConfigError, DataError
from legos.files import sha256_of_text, write_array
from legos.lm.settings import LanguageModelSource
from legos.lm.text_model import Reached, call_options, hidden_states, layer_stack, padding_id
from legos.progress import progress_bar
from legos.records import read_array
from legos.sharing import ALONE, Sharing

Pooling = Literal["mean", "first", "last"]

_VERSION = "mean-2"  # of text vectors; part of their fingerprint
_SIMILAR = 0.75  # a batch's shortest text has that much of its longest: little padding
TOKENS, POOLED, FINAL = "tokens", "pooled", "final"
"""What bricks read besides the states of a layer."""
PER_ITEM = frozenset({POOLED, FINAL})
"""Those that have one row an item."""


def layer_name(layer: int) -> str:
    """How a cache calls the states at a layer."""
    return f"layer_{layer}"


class StateReader:
    """Reads hidden states of items.

    Args:
        model: a language model without head, on its device, in evaluation mode.
        layers: whose input states are kept; the model runs no further than the highest of them.
        pooled: keep the mean over each item's tokens of the input of every layer and of the final
            states, side by side: ``(N, (L + 1) * E)`` (IISAN).
        final: keep the mean over each item's tokens of the final states: ``(N, E)``.
        batch_tokens: tokens read at once, padding included.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layers: Sequence[int] = (),
        pooled: bool = False,
        final: bool = False,
        batch_tokens: int = 16_384,
    ) -> None:
        self.model, self.layers, self.pooled, self.final = model, tuple(layers), pooled, final
        self.batch_tokens = batch_tokens
        self.stack = layer_stack(model)[1]
        self.device = next(model.parameters()).device
        self.padding = padding_id(model)
        self.options = call_options(model)

    @torch.no_grad()
    def __call__(self, tokens: Ragged) -> Mapping[str, Tensor]:
        """Texts of N items -> per layer ``(P, E)``, and what has one row an item."""
        out: dict[str, Tensor] = {}
        numbers = Ragged(torch.arange(len(tokens.values)), tokens.offsets)
        for items in similar_items(tokens, batch_tokens=self.batch_tokens):
            padded, mask = padded_batch(tokens, items, padding=self.padding)
            places = numbers.select(items).values
            for name, states in self._read(padded, mask).items():
                whole = len(tokens) if name in PER_ITEM else tokens.values.numel()
                if name not in out:
                    out[name] = states.new_zeros(whole, states.shape[-1])
                target = items if name in PER_ITEM else places
                values = states if name in PER_ITEM else states[mask.to(states.device)]
                out[name][target.to(states.device)] = values
        return out

    def _read(self, padded: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Ids and mask ``(n, T)`` -> states ``(n, T, E)`` by name, or ``(n, width)`` of items."""
        inputs = {
            "input_ids": padded.to(self.device),
            "attention_mask": mask.long().to(self.device),
        }
        found: dict[int, Tensor] = {}
        wanted = range(len(self.stack)) if self.pooled else self.layers
        last = None if self.pooled or self.final else max(self.layers)
        with _kept(self.stack, wanted, found, last):
            try:
                final = self.model(**inputs, **self.options)
            except Reached:
                final = None
        if not found.keys() >= set(wanted):
            raise ConfigError(
                f"{type(self.model).__name__} does not call its layers one after another; the "
                "states of a model of this kind cannot be cached"
            )
        found = {layer: _of_tokens(states, mask) for layer, states in found.items()}
        states = {layer_name(layer): found[layer] for layer in self.layers}
        if final is not None:
            top = final.last_hidden_state
            weights = inputs["attention_mask"][..., None]
            below = [found[layer] for layer in wanted] if self.pooled else []
            means = [(each.float() * weights).sum(1) / weights.sum(1) for each in (*below, top)]
            if self.pooled:
                states[POOLED] = torch.cat(means, -1).to(top.dtype)
            if self.final:
                states[FINAL] = means[-1].to(top.dtype)
        return states


def similar_items(tokens: Ragged, *, batch_tokens: int) -> list[Tensor]:
    """Numbers ``(n,)`` of items of similar length, the longest first; none without tokens.

    Args:
        tokens: ids of N items.
        batch_tokens: the most tokens of a batch, padding included, unless one item has more.
    """
    lengths = tokens.lengths
    order = lengths.argsort(stable=True)
    order = order[lengths[order] > 0]
    ascending = lengths[order]
    end = order.numel()
    found = []
    while end > 0:
        longest = int(ascending[end - 1])
        begin = max(0, end - max(1, batch_tokens // longest))
        similar = int(torch.searchsorted(ascending, longest * _SIMILAR))
        begin = max(begin, min(similar, end - 1))
        found.append(order[begin:end])
        end = begin
    return found


def padded_batch(tokens: Ragged, items: Tensor, *, padding: int) -> tuple[Tensor, Tensor]:
    """Ids ``(n, T)`` int64 of items, ``padding`` behind shorter ones, and mask ``(n, T)`` bool."""
    padded, mask = tokens.padded_tail(items, int(tokens.lengths[items].max()))
    return padded.long().masked_fill(~mask, padding), mask


def _of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """States ``(n, T, E)`` at the tokens of a mask ``(n, T)``, without what a family pads beyond.

    Raises:
        ConfigError: they lie otherwise, or are fewer than the tokens.
    """
    if states.dim() != 3 or len(states) != len(mask) or states.shape[1] < mask.shape[1]:
        raise ConfigError(
            f"its layers read hidden states of shape {tuple(states.shape)} for {tuple(mask.shape)} "
            "tokens; the states of a model of this kind cannot be cached"
        )
    return states[:, : mask.shape[1]]


@contextmanager
def _kept(
    stack: nn.ModuleList, wanted: Sequence[int], found: dict[int, Tensor], last: int | None
) -> Iterator[None]:
    """Note the input of the wanted layers; stop at ``last``."""

    def keep(layer: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            found[layer] = hidden_states(arguments, named)
            if layer == last:
                raise Reached

        return hook

    with ExitStack() as stack_of_hooks:
        for layer in wanted:
            handle = stack[layer].register_forward_pre_hook(keep(layer), with_kwargs=True)
            stack_of_hooks.callback(handle.remove)
        yield


def text_vectors(
    texts: Sequence[str],
    folder: Path,
    *,
    cache: Path | None = None,
    max_length: int = 128,
    batch_tokens: int = 4_096,
    normalise: bool = False,
    sharing: Sharing = ALONE,
) -> np.ndarray:
    """Encode texts, or read what an earlier call encoded.

    Args:
        texts: N texts.
        folder: a Hugging Face encoder with a fast tokenizer; only local files are read.
        cache: folder of ``<fingerprint>.npy``; the fingerprint covers configuration, weights,
            tokenizer, texts and length, so that a change of any is another file.
        max_length: tokens a text keeps, special tokens included.
        batch_tokens: tokens encoded at once, padding included.
        normalise: scale every vector to length 1.
        sharing: with which other processes; the first one writes the cache.

    Returns:
        ``(N, E)`` float32; ``(0, 0)`` in all but the first process.

    Raises:
        ConfigError: the folder lacks weights or a tokenizer, or the model reads no texts of
            ``max_length`` tokens.
    """
    path = None if cache is None else cache / f"{_fingerprint(texts, folder, max_length)}.npy"
    vectors = None
    if path is not None:
        with suppress(DataError):  # a damaged file is as good as none
            vectors = read_array(path, dtype="float32", shape=(len(texts), None))
    if sharing.first(lambda: vectors is None):
        vectors = _encode(texts, folder, max_length, batch_tokens, sharing)
        if path is not None and sharing.is_first:
            write_array(path, vectors)
    if vectors is None or not sharing.is_first:
        return np.zeros((0, 0), dtype=np.float32)
    return unit_rows(vectors) if normalise else vectors


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """``(N, E)`` rows of length 1; a row of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return scaled


def _fingerprint(texts: Sequence[str], folder: Path, max_length: int) -> str:
    files = [folder / "config.json", folder / "tokenizer.json", *folder.glob("*.safetensors")]
    missing = [file.name for file in files if not file.is_file()]
    if len(files) == 2:
        missing.append("*.safetensors")
    if missing:
        raise ConfigError(f"{folder}: no language model to encode texts: no {', '.join(missing)}")
    content = [content_of(file) for file in sorted(files)]
    content.append(sha256_of_text(json.dumps(list(texts))))
    return sha256_of_text(" ".join([_VERSION, *content, str(max_length)]))[:24]


def _encode(
    texts: Sequence[str], folder: Path, max_length: int, batch_tokens: int, sharing: Sharing
) -> np.ndarray:
    from tokenizers import Tokenizer

    from legos.lm.load import LanguageModel

    language = LanguageModel(LanguageModelSource.model_validate({"path": str(folder)}))
    if language.longest is not None and max_length > language.longest:
        raise ConfigError(
            f"max_length {max_length}: {folder} reads at most {language.longest} tokens a text"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = language.fit_to_table(Tokenizer.from_file(str(folder / "tokenizer.json")))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    encoded = [np.array(entry.ids, np.int64) for entry in tokenizer.encode_batch(list(texts))]
    tokens = from_rows(encoded, "int64").tensors()
    with progress_bar("encoding texts", tokens.values.numel()) as bar:
        found = pooled_final_states(
            language.load(),
            tokens,
            pooling="mean",
            batch_tokens=batch_tokens,
            advance=bar.advance,
            sharing=sharing,
        )
    if not found.numel():  # no text has a token
        return np.zeros((len(texts), language.output_width), dtype=np.float32)
    found[tokens.lengths == 0] = 0
    vectors: np.ndarray = found.numpy()
    return vectors


@torch.no_grad()
def pooled_final_states(
    model: nn.Module,
    tokens: Ragged,
    *,
    pooling: Pooling,
    batch_tokens: int = 16_384,
    advance: Callable[[int], None] = lambda count: None,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Texts of N items -> ``(N, E)`` float32 on the CPU; NaN for an item without tokens.

    Args:
        model: a language model without head, on its device, in evaluation mode.
        tokens: ids of N items.
        pooling: mean of an item's tokens, its first one or its last one.
        batch_tokens: tokens read at once, padding included.
        advance: told how many tokens are done.
        sharing: with which other processes; all but the first get ``(0, 0)``.
    """
    device = next(model.parameters()).device
    options = call_options(model)
    pages = similar_items(tokens, batch_tokens=batch_tokens)

    def encode(items: Tensor) -> Tensor:
        padded, mask = padded_batch(tokens, items, padding=padding_id(model))
        there = mask.to(device)
        output: Any = model(input_ids=padded.to(device), attention_mask=there.long(), **options)
        return _pooled(output.last_hidden_state.float(), there, pooling).cpu()

    vectors = torch.empty(0, 0)
    for items, pooled in sharing.in_turns(pages, encode):
        if sharing.is_first:
            if not vectors.numel():
                vectors = torch.full((len(tokens), pooled.shape[1]), torch.nan)
            vectors[items] = pooled
        advance(int(tokens.lengths[items].sum()))
    return vectors


def _pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """States ``(n, T, E)`` and mask ``(n, T)`` -> ``(n, E)``."""
    lengths = mask.sum(1)
    if pooling == "mean":
        # what stands under the mask may be anything, NaN included
        return states.masked_fill(~mask[..., None], 0).sum(1) / lengths[:, None]
    place = torch.zeros_like(lengths) if pooling == "first" else lengths - 1
    return states[torch.arange(len(states), device=states.device), place]
