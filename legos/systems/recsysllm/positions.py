"""Training examples: Part A with blanks, Part B that fills them, and both position ids.

RecSysLLM, sections 3.2 and 3.3. Part A is the document with one mask token for every blank. Part B
has for every blank, in the order of time, [START] and its tokens; each predicts the next, the last
[END]. The inter-position is the place in Part A, of Part B that of its mask; the intra-position
counts the tokens of an entity. All N examples are built at once, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges, from_lengths, join_rows
from legos.data.rows import place
from legos.errors import ConfigError
from legos.systems.recsysllm.automaton import START_ID, Automaton, number_units
from legos.systems.recsysllm.backbones.special_tokens import SpecialTokens
from legos.systems.recsysllm.masking import Blanks
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents

IGNORE = -100  # target of Part A
NO_SPAN = -1


@dataclass(frozen=True)
class Examples:
    """N packed examples of P tokens in all, each Part A and then Part B.

    Attributes:
        tokens: ``(P,)`` int64.
        targets: ``(P,)`` int64, ``IGNORE`` in Part A.
        inter: ``(P,)`` int64 place in Part A.
        intra: ``(P,)`` int64 place in the entity.
        spans: ``(P,)`` int64 which blank of the example a token fills, ``NO_SPAN`` in Part A.
        offsets: ``(N + 1,)`` int64.
        prompt_lengths: ``(N,)`` int64 tokens of Part A.
        masks: N rows of the places in Part A (from 0) of the mask tokens, in the order of Part B.
    """

    tokens: Tensor
    targets: Tensor
    inter: Tensor
    intra: Tensor
    spans: Tensor
    offsets: Tensor
    prompt_lengths: Tensor
    masks: Ragged

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` int64 tokens of each example."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def order(self) -> Tensor:
        """``(P,)`` int64 place of each token in its example, Part B after Part A."""
        return Ragged(self.tokens, self.offsets).positions

    @property
    def mask_inter(self) -> Ragged:
        """N rows of the inter-positions of the mask tokens."""
        at = self.masks.values + self.masks.spread(self.offsets[:-1])
        return Ragged(self.inter[at], self.masks.offsets)

    def prompts(self) -> Examples:
        """Part A alone: what is given at inference."""
        rows = Ragged(torch.arange(len(self.tokens), device=self.tokens.device), self.offsets)
        kept = rows.head(self.prompt_lengths)
        return self._take(kept.values, kept.offsets, self.prompt_lengths, self.masks)

    def select(self, numbers: Tensor) -> Examples:
        """Examples by number, ``(M,)`` int64, in this order."""
        rows = Ragged(torch.arange(len(self.tokens), device=self.tokens.device), self.offsets)
        chosen = rows.select(numbers)
        return self._take(
            chosen.values, chosen.offsets, self.prompt_lengths[numbers], self.masks.select(numbers)
        )

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device."""
        return Examples(
            self.tokens.to(device), self.targets.to(device), self.inter.to(device),
            self.intra.to(device), self.spans.to(device), self.offsets.to(device),
            self.prompt_lengths.to(device), self.masks.to(device),
        )  # fmt: skip

    def _take(self, index: Tensor, offsets: Tensor, prompts: Tensor, masks: Ragged) -> Examples:
        return Examples(
            self.tokens[index], self.targets[index], self.inter[index], self.intra[index],
            self.spans[index], offsets, prompts, masks,
        )  # fmt: skip


def build_examples(
    documents: Documents,
    blanks: Blanks,
    special: SpecialTokens,
    settings: PositionSettings,
    *,
    automaton: Automaton | None = None,
    span_order: Tensor | None = None,
) -> Examples:
    """Cut blanks out of documents.

    Args:
        documents: N.
        blanks: which ranges of tokens; no entity is split.
        special: tokens of the backbone.
        settings: how positions count.
        automaton: of all entities; needed where ``intra_source`` is ``automaton``.
        span_order: ``(S,)`` random numbers, needed where ``shuffle_spans`` is set: blanks of a
            document are filled in their order.

    Raises:
        ConfigError: what the settings need was not given.
    """
    tokens = documents.tokens
    ranges = blanks.ranges.values + blanks.ranges.spread(tokens.offsets[:-1])[:, None]  # (S, 2)
    owners = blanks.ranges.rows  # (S,) document of each blank
    part_a = _part_a(documents, ranges, special.of_levels(blanks.levels), settings, special)
    masks = Ragged(part_a.mask_places, blanks.ranges.offsets)
    if settings.shuffle_spans:
        if span_order is None:
            raise ConfigError("shuffle_spans: needs span_order")
        first = span_order.argsort(stable=True)
        order = first[owners[first].argsort(stable=True)]
        ranges, masks = ranges[order], Ragged(masks.values[order], masks.offsets)
    filling = _slices(tokens.values.long(), ranges)  # S rows
    intra = _intra(documents, ranges, filling, settings, automaton)
    columns = _part_b(filling, intra, masks, special, settings)
    lengths = masks.sums(filling.lengths + 1)

    def joined(a: Tensor, b: Tensor) -> Ragged:
        return join_rows([from_lengths(a, part_a.lengths), from_lengths(b, lengths)])

    whole = joined(part_a.tokens, columns.tokens)
    return Examples(
        tokens=whole.values,
        targets=joined(torch.full_like(part_a.tokens, IGNORE), columns.targets).values,
        inter=joined(part_a.inter, columns.inter).values,
        intra=joined(part_a.intra, columns.intra).values,
        spans=joined(torch.full_like(part_a.tokens, NO_SPAN), columns.spans).values,
        offsets=whole.offsets,
        prompt_lengths=part_a.lengths,
        masks=masks,
    )


@dataclass(frozen=True)
class _PartA:
    tokens: Tensor
    inter: Tensor
    intra: Tensor
    lengths: Tensor  # (N,)
    mask_places: Tensor  # (S,) in the order of the text


@dataclass(frozen=True)
class _PartB:
    tokens: Tensor
    targets: Tensor
    inter: Tensor
    intra: Tensor
    spans: Tensor


def _part_a(
    documents: Documents,
    ranges: Tensor,
    mask_tokens: Tensor,
    settings: PositionSettings,
    special: SpecialTokens,
) -> _PartA:
    tokens = documents.tokens
    count = len(tokens.values)
    change = torch.zeros(count + 1, dtype=torch.int64)
    change.index_add_(0, ranges[:, 0], torch.ones_like(ranges[:, 0]))
    change.index_add_(0, ranges[:, 1], -torch.ones_like(ranges[:, 1]))
    masked = change.cumsum(0)[:count] > 0
    begins = torch.zeros(count, dtype=torch.bool)
    begins[ranges[:, 0]] = True
    rows = tokens.rows
    values = tokens.values.long().where(~begins, mask_tokens[rows])
    intra = _unit_positions(documents, settings).masked_fill(masked, 0)
    kept = (~masked | begins).nonzero()[:, 0]
    lengths = torch.bincount(rows[kept], minlength=len(documents))
    parts = [from_lengths(values[kept], lengths), from_lengths(intra[kept], lengths)]
    is_mask = from_lengths(begins[kept].long(), lengths)
    if settings.prepend_cls:
        ones = torch.ones_like(lengths)
        cls = from_lengths(torch.full_like(lengths, special.needed_cls()), ones)
        zero = from_lengths(torch.zeros_like(lengths), ones)
        parts = [join_rows([cls, parts[0]]), join_rows([zero, parts[1]])]
        is_mask = join_rows([zero, is_mask])
    place = parts[0].positions
    return _PartA(
        parts[0].values,
        place + settings.inter_base,
        parts[1].values,
        parts[0].lengths,
        place[is_mask.values.bool()],
    )


def _unit_positions(documents: Documents, settings: PositionSettings) -> Tensor:
    """Intra-positions of visible tokens: ``(P,)``."""
    entity = documents.is_entity
    if not settings.entities_in_prompt:
        return torch.zeros(len(documents.units.values), dtype=torch.int64)
    if settings.single_token_entity == 0:
        entity = entity & (documents.units.lengths > 1)
    ids = documents.units.positions + settings.first_in_entity
    return ids.masked_fill(~entity[documents.token_units], 0)


def _intra(
    documents: Documents,
    ranges: Tensor,
    filling: Ragged,
    settings: PositionSettings,
    automaton: Automaton | None,
) -> Tensor:
    """Intra-positions of what fills blanks: ``(Q,)``."""
    if settings.intra_mode == "glm":
        return filling.positions + START_ID + 1
    if settings.intra_source == "automaton":
        if automaton is None:
            raise ConfigError("intra_source: automaton: needs the automaton of all entities")
        return automaton.number(filling)
    units = documents.token_units
    plain = ~documents.is_entity[units]
    starts = plain | (documents.units.positions == 0)
    return number_units(
        filling, _slices(starts, ranges).values, _slices(plain, ranges).values, settings
    )


def _part_b(
    filling: Ragged,
    intra: Tensor,
    masks: Ragged,
    special: SpecialTokens,
    settings: PositionSettings,
) -> _PartB:
    """Every blank as [START] and its tokens, targets one ahead."""
    ones = torch.ones_like(filling.lengths)

    def with_one(value: int, values: Tensor, *, last: bool = False) -> Tensor:
        one = from_lengths(torch.full_like(ones, value), ones)
        own = Ragged(values, filling.offsets)
        return join_rows([own, one] if last else [one, own]).values

    lengths = filling.lengths + 1
    number = masks.positions  # (S,) of each blank in its example
    return _PartB(
        tokens=with_one(special.start, filling.values),
        targets=with_one(special.end, filling.values, last=True),
        inter=(masks.values + settings.inter_base).repeat_interleave(lengths),
        intra=with_one(START_ID, intra),
        spans=number.repeat_interleave(lengths),
    )


def _slices(values: Tensor, edges: Tensor) -> Ragged:
    """``values[a:b]`` for each of S ranges ``(S, 2)``."""
    places = aranges(edges[:, 0], edges[:, 1] - edges[:, 0])
    return Ragged(values[places.values], places.offsets)


Side = Literal["left", "right"]


@dataclass(frozen=True)
class Places:
    """What a backbone reads: four ``(R, W)`` int64 tensors.

    Attributes:
        tokens: ids.
        inter: inter-entity positions.
        intra: intra-entity positions.
        order: place in the example, Part B after Part A: what a decoder with rotary positions was
            trained with.
    """

    tokens: Tensor
    inter: Tensor
    intra: Tensor
    order: Tensor


@dataclass(frozen=True)
class Layout:
    """Where the P tokens of N examples lie in R rows of W places.

    Attributes:
        places: what a backbone reads; 0 and the padding token at free places.
        mask: ``(R, 1, W, W)`` bool, True = may attend; free places see only themselves, so that
            no row of the attention is empty.
        slots: ``(P,)`` int64 place of each token in the ``R * W`` places.
        real: ``(R, W)`` bool: a token, not a free place.
    """

    places: Places
    mask: Tensor
    slots: Tensor
    real: Tensor


def lay_out(
    examples: Examples,
    *,
    pad: int,
    row_tokens: int | None = None,
    side: Side = "right",
    bidirectional: bool = True,
) -> Layout:
    """Lay examples into rows.

    Args:
        examples: N, at least one token in all.
        pad: token at free places.
        row_tokens: pack several examples into rows of this many tokens; None: one a row.
        side: where padding stands if there is one a row.
        bidirectional: Part A sees all of itself; off: only what comes before, as a decoder is used
            to.
    """
    packed = Ragged(examples.tokens, examples.offsets)
    rows, order = packed.rows, packed.positions
    if row_tokens is None:
        num_rows, width = len(examples), int(examples.lengths.max())
        shift = width - examples.lengths if side == "left" else torch.zeros_like(examples.lengths)
        slots = rows * width + shift[rows] + order
    else:
        placed = place(packed, row_tokens)
        num_rows, width, slots = placed.num_rows, placed.width, placed.slots

    def column(values: Tensor, free: int) -> Tensor:
        flat = values.new_full((num_rows * width,), free)
        return flat.index_copy(0, slots, values).view(num_rows, width)

    sequence = column(rows, -1)
    in_prompt = column((order < examples.prompt_lengths[rows]).long(), 0).bool()
    places = Places(
        column(examples.tokens, pad), column(examples.inter, 0), column(examples.intra, 0),
        column(order, 0),
    )  # fmt: skip
    mask = prefix_mask(sequence, places.order, in_prompt if bidirectional else None)
    return Layout(places, mask[:, None], slots, sequence >= 0)


def prefix_mask(sequence: Tensor, order: Tensor, in_prompt: Tensor | None) -> Tensor:
    """Who may attend to whom.

    Args:
        sequence: ``(R, W)`` int64 example of each place, -1 at free places.
        order: ``(R, W)`` int64 place in the example.
        in_prompt: ``(R, W)`` bool: of Part A; None: everything is causal.

    Returns:
        ``(R, W, W)`` bool: [row, query, key].
    """
    same = (sequence[:, :, None] == sequence[:, None, :]) & (sequence >= 0)[:, :, None]
    seen = order[:, None, :] <= order[:, :, None]
    if in_prompt is not None:
        seen = seen | in_prompt[:, None, :]
    own = torch.eye(sequence.shape[1], dtype=torch.bool, device=sequence.device)
    return (same & seen) | own


def attention_mask(mask: Tensor | None, implementation: str, dtype: torch.dtype) -> Tensor:
    """A bool mask in the form that an attention implementation understands.

    transformers adds a bool mask to scores where attention is ``eager`` (logits are silently
    wrong), and takes repeated positions without a mask for packed sequences (wrong too).

    Args:
        mask: ``(R, 1, Q, K)`` bool.
        implementation: ``sdpa`` or ``eager``.
        dtype: of the scores.

    Raises:
        ConfigError: there is no mask, it is not bool, or the implementation takes no such masks.
    """
    if mask is None or mask.dtype != torch.bool or mask.dim() != 4:
        found = "none" if mask is None else f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ConfigError(f"attention mask: {found}, expected bool of shape (rows, 1, query, key)")
    if implementation == "sdpa":
        return mask
    if implementation == "eager":
        zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return zeros.masked_fill_(~mask, torch.finfo(dtype).min)
    raise ConfigError(
        f"attention {implementation!r}: takes no mask of queries by keys; expected sdpa or eager"
    )
