"""Training examples: Part A with blanks, Part B that fills them, and both position ids.

RecSysLLM, sections 3.2 and 3.3. Part A is the document with one mask token for every blank. Part B
has for every blank, in the order of time, [START] and its tokens; each predicts the next, the last
[END]. The inter-position is the place in Part A, of Part B that of its mask; the intra-position
counts the tokens of an entity. All N examples are built at once, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges, from_lengths, join_rows, offsets_of
from legos.data.rows import place
from legos.errors import ConfigError
from legos.systems.recsysllm.automaton import START_ID, Automaton
from legos.systems.recsysllm.masking import Blanks
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of a backbone.

    Attributes:
        mask: [MASK], a short blank.
        sentence_mask: [sMASK], a sentence.
        document_mask: [gMASK], one long blank.
        start: [START], before what fills a blank.
        end: [END], the target after it; it is never an input.
        pad: any id; masked everywhere.
        cls: [CLS], before every example; None where the backbone has none.
    """

    mask: int
    sentence_mask: int
    document_mask: int
    start: int
    end: int
    pad: int
    cls: int | None = None

    def of_levels(self, levels: Tensor) -> Tensor:
        """The mask token of each level of masking (``positions.masking``): any shape, int64."""
        masks = [self.mask, self.sentence_mask, self.document_mask]
        return torch.tensor(masks, device=levels.device)[levels]

    def is_mask(self, tokens: Tensor) -> Tensor:
        """Which tokens are masks: bool of the same shape."""
        return (
            (tokens == self.mask)
            | (tokens == self.sentence_mask)
            | (tokens == self.document_mask)
        )  # fmt: skip

    def needed_cls(self) -> int:
        """[CLS].

        Raises:
            ConfigError: the backbone has none.
        """
        if self.cls is None:
            raise ConfigError("prepend_cls: this backbone has no [CLS]")
        return self.cls


def appended(vocabulary: int, *, pad: int = 0) -> SpecialTokens:
    """Five tokens behind the words of a decoder that knows no blanks."""
    return SpecialTokens(
        mask=vocabulary,
        sentence_mask=vocabulary + 1,
        document_mask=vocabulary + 2,
        start=vocabulary + 3,
        end=vocabulary + 4,
        pad=pad,
    )


def appended_with_cls(vocabulary: int) -> SpecialTokens:
    """The same and [CLS], behind the words of a tokenizer whose model has random weights."""
    return replace(appended(vocabulary), cls=vocabulary + NUM_APPENDED)


NUM_APPENDED = 5

GLM_GPT2 = SpecialTokens(
    mask=50260, sentence_mask=50264, document_mask=50263, start=50257, end=50258, pad=50256,
    cls=50259,
)  # fmt: skip
"""Of GLM-2B and GLM-10B: GPT-2's 50,257 tokens, then those of GLM's tokenizer."""


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
        kept = self._numbers.head(self.prompt_lengths)
        return self._take(kept, self.prompt_lengths, self.masks)

    def select(self, numbers: Tensor) -> Examples:
        """Examples by number, ``(M,)`` int64, in this order."""
        masks = self.masks.select(numbers)
        return self._take(self._numbers.select(numbers), self.prompt_lengths[numbers], masks)

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device."""
        return Examples(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def _numbers(self) -> Ragged:
        return Ragged(torch.arange(len(self.tokens), device=self.tokens.device), self.offsets)

    def _take(self, kept: Ragged, prompts: Tensor, masks: Ragged) -> Examples:
        columns = (self.tokens, self.targets, self.inter, self.intra, self.spans)
        found: list[Any] = [each[kept.values] for each in columns]
        return Examples(*[*found, kept.offsets, prompts, masks])


def build_examples(
    documents: Documents,
    blanks: Blanks,
    special: SpecialTokens,
    settings: PositionSettings,
    automaton: Automaton,
    *,
    span_order: Tensor | None = None,
) -> Examples:
    """Cut blanks out of documents.

    Args:
        documents: N.
        blanks: which ranges of tokens; no entity is split.
        special: tokens of the backbone.
        settings: how positions count.
        automaton: of all entities.
        span_order: ``(S,)`` random numbers, needed where ``shuffle_spans`` is set: blanks of a
            document are filled in their order.

    Raises:
        ConfigError: ``shuffle_spans`` without an order.
    """
    tokens = documents.tokens
    ranges = blanks.ranges.values + blanks.ranges.spread(tokens.offsets[:-1])[:, None]  # (S, 2)
    (shown, intra), places = _part_a(
        documents, ranges, special.of_levels(blanks.levels), settings, special
    )
    masks = Ragged(places, blanks.ranges.offsets)
    if settings.shuffle_spans:
        if span_order is None:
            raise ConfigError("shuffle_spans: needs span_order")
        first = span_order.argsort(stable=True)
        order = first[blanks.ranges.rows[first].argsort(stable=True)]
        ranges, masks = ranges[order], Ragged(masks.values[order], masks.offsets)
    spans = aranges(ranges[:, 0], ranges[:, 1] - ranges[:, 0])
    filling = Ragged(tokens.values.long()[spans.values], spans.offsets)  # S rows
    nothing = torch.full_like(shown.values, IGNORE), torch.full_like(shown.values, NO_SPAN)
    part_a = [shown.values, nothing[0], shown.positions, intra.values, nothing[1]]
    part_b = _part_b(filling, automaton.number(filling), masks, special)
    lengths = masks.sums(filling.lengths + 1)
    offsets = offsets_of(shown.lengths + lengths)
    columns: list[Any] = [
        join_rows([Ragged(a, shown.offsets), from_lengths(b, lengths)]).values
        for a, b in zip(part_a, part_b, strict=True)
    ]
    return Examples(*[*columns, offsets, shown.lengths, masks])


def _part_a(
    documents: Documents,
    ranges: Tensor,
    mask_tokens: Tensor,
    settings: PositionSettings,
    special: SpecialTokens,
) -> tuple[list[Ragged], Tensor]:
    """Tokens and intra-positions: N rows each; places of the masks ``(S,)``, as in the text."""
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
    entity = documents.is_entity[documents.token_units]
    intra = (documents.units.positions + 1).masked_fill(~entity | masked, 0)
    kept = (~masked | begins).nonzero()[:, 0]
    lengths = torch.bincount(rows[kept], minlength=len(documents))
    columns = [from_lengths(each[kept], lengths) for each in (values, intra, begins.long())]
    if settings.prepend_cls:
        ones = torch.ones_like(lengths)
        first = [torch.full_like(lengths, each) for each in (special.needed_cls(), 0, 0)]
        columns = [
            join_rows([from_lengths(one, ones), column])
            for one, column in zip(first, columns, strict=True)
        ]
    return columns[:2], columns[0].positions[columns[2].values.bool()]


def _part_b(filling: Ragged, intra: Tensor, masks: Ragged, special: SpecialTokens) -> list[Tensor]:
    """Every blank as [START] and its tokens: tokens, targets (one ahead), inter, intra, spans."""
    ones = torch.ones_like(filling.lengths)

    def with_one(value: int, values: Tensor, *, last: bool = False) -> Tensor:
        one = from_lengths(torch.full_like(ones, value), ones)
        own = Ragged(values, filling.offsets)
        return join_rows([own, one] if last else [one, own]).values

    lengths = filling.lengths + 1
    return [
        with_one(special.start, filling.values),
        with_one(special.end, filling.values, last=True),
        masks.values.repeat_interleave(lengths),
        with_one(START_ID, intra),
        masks.positions.repeat_interleave(lengths),
    ]


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
