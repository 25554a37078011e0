"""Examples in rows, and who may attend to whom there.

RecSysLLM, section 3.2: Part A sees all of Part A, Part B all of Part A and what stands before it in
Part B. The mask is made on the device from three short columns, whether a row holds one example,
padded on either side, or several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.data.rows import place
from legos.errors import ConfigError
from legos.systems.recsysllm.positions.positions import Examples

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
