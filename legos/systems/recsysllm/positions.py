"""Training examples: Part A with blanks, Part B that fills them, and both position ids.

RecSysLLM, sections 3.2 and 3.3. Part A is the document with one mask token for every blank. Part B
has for every blank, in the order of time, [START] and its tokens; each predicts the next, the last
[END]. The inter-position counts the tokens of Part A, in Part B it is that of the mask; the
intra-position counts the tokens of an entity. All N examples are built at once, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges, from_lengths, join_rows, offsets_of
from legos.data.rows import pack
from legos.errors import ConfigError
from legos.systems.recsysllm.automaton import START_ID, Automaton
from legos.systems.recsysllm.masking import Blanks
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents

IGNORE = -100  # target of Part A
NUM_APPENDED = 5


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of a backbone's tokens of blank infilling.

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

    @property
    def masks(self) -> list[int]:
        """The mask token of each level of masking (``masking.ENTITY``, ...)."""
        return [self.mask, self.sentence_mask, self.document_mask]


GLM_GPT2 = SpecialTokens(
    mask=50260, sentence_mask=50264, document_mask=50263, start=50257, end=50258, pad=50256,
    cls=50259,
)  # fmt: skip
"""Of GLM-2B and GLM-10B: GPT-2's 50,257 tokens, then those of GLM's tokenizer."""


def appended(vocabulary: int, *, pad: int = 0) -> SpecialTokens:
    """Ids of five tokens appended to a vocabulary without tokens for blanks."""
    mask, sentence, document, start, end = range(vocabulary, vocabulary + NUM_APPENDED)
    return SpecialTokens(mask, sentence, document, start, end, pad)


@dataclass(frozen=True)
class Examples:
    """N packed examples of P tokens in all, each Part A and then Part B.

    Attributes:
        tokens: ``(P,)`` int64.
        targets: ``(P,)`` int64, ``IGNORE`` where nothing is predicted, as in most of Part A.
        inter: ``(P,)`` int64 inter-positions.
        intra: ``(P,)`` int64 intra-positions.
        offsets: ``(N + 1,)`` int64.
        prompt_lengths: ``(N,)`` int64 tokens of Part A.
        masks: N rows of the positions in Part A (from 0) of the mask tokens, in the order of
            Part B.
    """

    tokens: Tensor
    targets: Tensor
    inter: Tensor
    intra: Tensor
    offsets: Tensor
    prompt_lengths: Tensor
    masks: Ragged

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` int64 tokens of each example."""
        return self.offsets.diff()

    @property
    def mask_inter(self) -> Ragged:
        """N rows of the inter-positions of the mask tokens."""
        at = self.masks.values + self.masks.spread(self.offsets[:-1])
        return Ragged(self.inter[at], self.masks.offsets)

    def prompts(self) -> Examples:
        """Part A only, the input at inference."""
        return self._take(self._index.head(self.prompt_lengths), self.prompt_lengths, self.masks)

    def select(self, numbers: Tensor) -> Examples:
        """Examples by number, ``(M,)`` int64, in this order."""
        masks = self.masks.select(numbers)
        return self._take(self._index.select(numbers), self.prompt_lengths[numbers], masks)

    def to(self, device: torch.device | str) -> Examples:
        """The same on another device."""
        return Examples(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def _index(self) -> Ragged:
        return Ragged(torch.arange(len(self.tokens), device=self.tokens.device), self.offsets)

    def _take(self, kept: Ragged, prompts: Tensor, masks: Ragged) -> Examples:
        columns = (self.tokens, self.targets, self.inter, self.intra)
        tokens, targets, inter, intra = (each[kept.values] for each in columns)
        return Examples(tokens, targets, inter, intra, kept.offsets, prompts, masks)


def build_examples(
    documents: Documents,
    blanks: Blanks,
    special: SpecialTokens,
    settings: PositionSettings,
    automaton: Automaton,
    *,
    span_order: Tensor | None = None,
    predicted: Tensor | None = None,
) -> Examples:
    """Cut blanks out of documents.

    Args:
        blanks: which ranges of tokens; no entity is split.
        predicted: ``(U,)`` bool: units that are targets where they stand in Part A, too, each
            after what comes before it, then [END]; for a backbone that reads Part A one way.
        settings: whether there is a [CLS].
        span_order: ``(S,)`` random numbers: blanks of a document are filled in their order; None:
            as they stand.

    Raises:
        ConfigError: a [CLS] is asked for and the backbone has none.
    """
    tokens = documents.tokens
    ranges = blanks.ranges.values + blanks.ranges.spread(tokens.offsets[:-1])[:, None]  # (S, 2)
    shown, targets_a, intra, masks = _part_a(documents, ranges, blanks, special, predicted)
    if settings.prepend_cls:
        if special.cls is None:
            raise ConfigError("prepend_cls: this backbone has no [CLS]")
        shown, intra = with_ends(shown, first=special.cls), with_ends(intra, first=0)
        targets_a = with_ends(targets_a, first=IGNORE)
        masks = Ragged(masks.values + 1, masks.offsets)
    if span_order is not None:
        order = span_order.argsort(stable=True)
        order = order[masks.rows[order].argsort(stable=True)]
        ranges, masks = ranges[order], Ragged(masks.values[order], masks.offsets)
    spans = aranges(ranges[:, 0], ranges[:, 1] - ranges[:, 0])
    filling = Ragged(tokens.values.long()[spans.values], spans.offsets)  # S rows
    ids = Ragged(automaton.number(filling), filling.offsets)
    lengths = masks.sums(filling.lengths + 1)  # (N,) of Part B
    columns = [
        (shown.values, with_ends(filling, first=special.start).values),
        (targets_a.values, with_ends(filling, last=special.end).values),
        (shown.positions, masks.values.repeat_interleave(filling.lengths + 1)),
        (intra.values, with_ends(ids, first=START_ID).values),
    ]
    values, targets, inter, numbers = (
        join_rows([Ragged(a, shown.offsets), from_lengths(b, lengths)]).values for a, b in columns
    )
    offsets = offsets_of(shown.lengths + lengths)
    return Examples(values, targets, inter, numbers, offsets, shown.lengths, masks)


class _PartA(NamedTuple):
    """N rows each: tokens, targets and intra-positions, and the positions of the masks."""

    tokens: Ragged
    targets: Ragged
    intra: Ragged
    masks: Ragged


def _part_a(
    documents: Documents,
    ranges: Tensor,
    blanks: Blanks,
    special: SpecialTokens,
    predicted: Tensor | None,
) -> _PartA:
    """See :class:`_PartA`."""
    tokens = documents.tokens
    masked, begins = torch.zeros(2, len(tokens.values), dtype=torch.bool)
    masked[aranges(ranges[:, 0], ranges[:, 1] - ranges[:, 0]).values] = True
    begins[ranges[:, 0]] = True
    mask_tokens = torch.tensor(special.masks)[blanks.levels]  # (N,)
    values = tokens.values.long().where(~begins, tokens.spread(mask_tokens))
    in_entity = documents.units.spread(documents.is_entity)
    intra = (documents.units.positions + 1).masked_fill(~in_entity | masked, 0)
    kept = ~masked | begins
    targets = torch.full_like(values, IGNORE)
    if predicted is not None:
        chosen = documents.units.spread(predicted) & ~masked
        targets[chosen & (documents.units.to_end == 1)] = special.end
        at = (chosen & (tokens.positions > 0)).nonzero()[:, 0]
        targets[at - 1] = values[at]
    shown, wanted, numbered = (
        Ragged(each, tokens.offsets).keep(kept) for each in (values, targets, intra)
    )
    masks = Ragged(shown.positions[begins[kept]], blanks.ranges.offsets)
    return _PartA(shown, wanted, numbered, masks)


def with_ends(rows: Ragged, *, first: int | None = None, last: int | None = None) -> Ragged:
    """Rows of int64, each with one more token before or behind it."""
    ones = torch.ones_like(rows.lengths)
    before = [] if first is None else [from_lengths(torch.full_like(ones, first), ones)]
    behind = [] if last is None else [from_lengths(torch.full_like(ones, last), ones)]
    return join_rows([*before, rows, *behind])


@dataclass(frozen=True)
class Inputs:
    """Input of a backbone: four ``(R, W)`` int64 tensors.

    Attributes:
        tokens: ids.
        inter: inter-entity positions.
        intra: intra-entity positions.
        order: position in the example, Part B after Part A: what a decoder with rotary positions
            was trained with.
    """

    tokens: Tensor
    inter: Tensor
    intra: Tensor
    order: Tensor


@dataclass(frozen=True)
class Layout:
    """The P tokens of N examples in R rows of W slots.

    Attributes:
        inputs: what a backbone reads; 0 and the padding token in free slots.
        mask: ``(R, 1, W, W)`` bool, True = may attend; free slots see only themselves, so that no
            row of the attention is empty.
        slots: ``(P,)`` int64 which of the ``R * W`` slots each token has.
        real: ``(R, W)`` bool: a token, not a free slot.
    """

    inputs: Inputs
    mask: Tensor
    slots: Tensor
    real: Tensor


def lay_out(
    examples: Examples, *, pad: int, row_tokens: int | None = None, bidirectional: bool = True
) -> Layout:
    """Lay examples into rows.

    Args:
        examples: N, at least one token in all.
        pad: token in free slots.
        row_tokens: pack several examples into rows of this many tokens; None: one a row.
        bidirectional: Part A sees all of itself; off: only what comes before, as a decoder is used
            to.
    """
    packed = Ragged(examples.tokens, examples.offsets)
    numbers, order = packed.rows, packed.positions
    if row_tokens is None:
        shape = torch.Size((len(examples), int(examples.lengths.max())))
        slots = numbers * shape[1] + order
    else:
        rows = pack(packed, row_tokens)
        shape, slots = torch.Size((rows.num_rows, rows.width)), rows.slots
    inputs = Inputs(
        in_slots(examples.tokens, slots, shape, pad), in_slots(examples.inter, slots, shape, 0),
        in_slots(examples.intra, slots, shape, 0), in_slots(order, slots, shape, 0),
    )  # fmt: skip
    number = in_slots(numbers, slots, shape, -1)
    same = (number[:, :, None] == number[:, None, :]) & (number >= 0)[:, :, None]  # (R, W, W)
    seen = inputs.order[:, None, :] <= inputs.order[:, :, None]
    if bidirectional:
        in_prompt = (order < examples.prompt_lengths[numbers]).long()
        seen = seen | in_slots(in_prompt, slots, shape, 0).bool()[:, None, :]
    own = torch.eye(shape[1], dtype=torch.bool, device=number.device)
    return Layout(inputs, ((same & seen) | own)[:, None], slots, number >= 0)


def in_slots(values: Tensor, slots: Tensor, shape: torch.Size, free: int) -> Tensor:
    """One value a token, ``(P,)`` int64, in its slot of ``(R, W)``; ``free`` in the others."""
    flat = values.new_full((shape.numel(),), free)
    return flat.index_copy(0, slots, values).view(shape)


def attention_mask(mask: Tensor | None, implementation: str, dtype: torch.dtype) -> Tensor:
    """A bool mask ``(R, 1, Q, K)`` in the form that an attention implementation understands.

    transformers adds a bool mask to scores where attention is ``eager`` (logits are silently
    wrong), and takes repeated positions without a mask for packed sequences (wrong too).

    Raises:
        ConfigError: there is no mask, it is not bool, or the implementation takes no such masks.
    """
    if mask is None or mask.dtype != torch.bool or mask.dim() != 4:
        given = "none" if mask is None else f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ConfigError(f"attention mask: {given}, expected bool of shape (rows, 1, query, key)")
    if implementation == "sdpa":
        return mask
    if implementation == "eager":
        zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return zeros.masked_fill_(~mask, torch.finfo(dtype).min)
    raise ConfigError(
        f"attention {implementation!r}: takes no mask of queries by keys; expected sdpa or eager"
    )
