"""The exact scores of many candidates after one prompt, in one pass.

RecSysLLM leaves candidates to generation; here each candidate is a Part B of its own beside the
others: all see the prompt, none sees another, and positions of each begin at the mask (GLM scores
its multiple choices so). A prompt is read once instead of once a candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.errors import DataError
from legos.systems.recsysllm.backbones.decoder import InfillBackbone
from legos.systems.recsysllm.positions.layout import Places
from legos.systems.recsysllm.reading import (
    ReadPrompts,
    SideBySide,
    chunks,
    side_by_side,
    token_losses,
)
from legos.systems.recsysllm.search.automaton import START_ID, Automaton


@torch.no_grad()
def score_candidates(
    backbone: InfillBackbone,
    read: ReadPrompts,
    candidates: Ragged,
    owners: Tensor,
    automaton: Automaton,
    *,
    max_tokens: int = 1024,
) -> Tensor:
    """Log-probability of each candidate and [END] as the filling of its prompt's blank.

    Args:
        backbone: in evaluation mode.
        read: B prompts of one blank each.
        candidates: S rows of tokens, on its device.
        owners: ``(S,)`` int64 prompt of each, ascending.
        automaton: of all entities, on its device.
        max_tokens: candidate tokens of a prompt that are read at once: attention costs its square.

    Returns:
        ``(S,)`` float32; float64 of a backbone in float64.

    Raises:
        DataError: a prompt has not exactly one blank, or owners do not ascend.
    """
    if bool((owners.diff() < 0).any()):
        raise DataError("candidates: owners must ascend")
    blanks, cache = read.only_blanks(), read.cache()
    scores = torch.zeros(len(candidates), device=read.real.device)
    for chosen in chunks(candidates.lengths + 1, owners, max_tokens):
        owned = owners[chosen]
        part = _segments(backbone, read, blanks, candidates.select(chosen), owned, automaton)
        width = part.places.tokens.shape[1]
        seen = read.real[:, None, :].expand(-1, width, -1)
        mask = torch.cat([seen, part.placed.mask], -1)[:, None]  # (B, 1, W, A + W)
        states = backbone.states(part.places, mask, cache).flatten(0, 1)
        cache.crop(-width)
        losses = token_losses(backbone, states.index_select(0, part.placed.slots), part.targets)
        scores = scores.to(losses.dtype).index_add_(0, chosen[part.segments], -losses)
    return scores


@dataclass(frozen=True)
class _Segments:
    places: Places  # (B, W)
    placed: SideBySide  # P tokens
    targets: Tensor  # (P,)
    segments: Tensor  # (P,) candidate of each token


def _segments(
    backbone: InfillBackbone,
    read: ReadPrompts,
    blanks: Tensor,
    candidates: Ragged,
    owners: Tensor,
    automaton: Automaton,
) -> _Segments:
    special, prompts = backbone.special, read.prompts
    ones = torch.ones_like(owners)
    start = from_lengths(torch.full_like(owners, special.start), ones)
    end = from_lengths(torch.full_like(owners, special.end), ones)
    one = from_lengths(torch.full_like(owners, START_ID), ones)
    own = Ragged(candidates.values.long(), candidates.offsets)
    rows = join_rows([start, own])
    intra = join_rows([one, Ragged(automaton.number(own), own.offsets)]).values
    segment, inside = rows.rows, rows.positions
    owner = owners[segment]  # (P,) ascending
    placed = side_by_side(owner, segment, inside, rows=len(prompts))
    places = Places(
        placed.column(rows.values, special.pad),
        placed.column(blanks[owner], 0),
        placed.column(intra, 0),
        placed.column(prompts.prompt_lengths[owner] + inside, 0),
    )
    return _Segments(places, placed, join_rows([own, end]).values, segment)
