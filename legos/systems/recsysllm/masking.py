"""Blanks in documents, at the level of entities, sentences or the document.

RecSysLLM, section 3.2: an entity is masked as a whole or not at all. A document is seen as atoms,
an entity or one plain token each, with so many tokens (``lengths``, ``(n,)``); blanks are ranges of
atoms in the order drawn, at most ``room`` of them, by random numbers ``uniform`` in [0, 1). Numbers
that the paper leaves open are those of GLM's public configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, offsets_of
from legos.data.sampling import keyed_bits
from legos.errors import DataError
from legos.systems.recsysllm.settings import MaskingSettings
from legos.systems.recsysllm.units import Documents

ENTITY, SENTENCE, DOCUMENT = 0, 1, 2  # levels
_LEVEL_KEY, _DRAW_KEY = 41, 42  # of random numbers
_UNIT = 2.0**62  # bits are below


@dataclass(frozen=True)
class Blanks:
    """Masked ranges of N documents.

    Attributes:
        ranges: N rows of ``(S, 2)`` int64: first token and the one after the last, counted in the
            document, ascending.
        levels: ``(N,)`` int64: ``ENTITY``, ``SENTENCE`` or ``DOCUMENT``.
    """

    ranges: Ragged
    levels: Tensor


def sample_blanks(
    documents: Documents,
    rows: Tensor,
    settings: MaskingSettings,
    *,
    seed: int,
    epoch: int,
    max_tokens: int,
) -> Blanks:
    """Draw a level and blanks for every document; a function of (seed, epoch, row).

    Args:
        documents: N, none empty.
        rows: ``(N,)`` int64 what names each document among all of them.
        max_tokens: of Part A and Part B together: every blank costs two tokens more than its own.

    Raises:
        DataError: a document has no room for a single blank, or no tokens.
    """
    shares = (settings.entity_weight, settings.sentence_weight, settings.document_weight)
    weights = np.array(shares).cumsum()
    draw = keyed_bits(rows, 1, _LEVEL_KEY, seed, epoch)[:, 0].double() / _UNIT
    levels = np.searchsorted(weights, draw.numpy() * weights[-1], side="right").clip(max=DOCUMENT)
    draws = (
        keyed_bits(rows, 2 * settings.tries + 2, _DRAW_KEY, seed, epoch).double() / _UNIT
    ).numpy()
    spans: list[np.ndarray] = []
    for row, uniform in enumerate(draws):
        lengths, sentence_ends = _atoms(documents, row, whole_entities=settings.whole_entities)
        total = int(lengths.sum())
        room = (max_tokens - total) // 2
        if total == 0 or room < 1:
            raise DataError(
                f"document {row}: {total} tokens; one blank needs 1 to {max_tokens - 2} of them"
            )
        if levels[row] == ENTITY:
            blanks = entity_blanks(lengths, uniform, settings, room)
        elif levels[row] == SENTENCE:
            blanks = sentence_blanks(lengths, sentence_ends, uniform, settings, room)
        else:
            blanks = [document_blank(lengths, uniform, settings)]
        if not blanks:  # one entity and nothing else
            blanks, levels[row] = [(0, len(lengths))], DOCUMENT
        spans.append(offsets_of(lengths)[np.array(sorted(blanks))])
    counts = torch.tensor([len(each) for each in spans], dtype=torch.int64)
    ranges = from_lengths(torch.from_numpy(np.concatenate(spans)), counts)
    return Blanks(ranges, torch.from_numpy(levels))


def entity_blanks(
    lengths: np.ndarray, uniform: np.ndarray, settings: MaskingSettings, room: int
) -> list[tuple[int, int]]:
    """Short blanks, each grown to whole atoms, with something visible between them.

    ``uniform`` has two random numbers a try. No blanks where there is only one atom.
    """
    count = len(lengths)
    budget = max(1, math.floor(settings.ratio * int(lengths.sum())))
    cumulative = _truncated_poisson(settings.mean_length, settings.max_length)
    free = np.ones(count + 2, dtype=bool)  # one more on either side: neighbours always exist
    blanks: list[tuple[int, int]] = []
    masked = masked_atoms = 0
    for attempt in range(settings.tries):
        first = int(uniform[2 * attempt] * count)
        if not free[first + 1]:
            continue
        want = int(np.searchsorted(cumulative, uniform[2 * attempt + 1], side="right")) + 1
        end, tokens = first, 0
        while end < count and free[end + 1] and tokens < want:
            tokens += int(lengths[end])
            end += 1
        if masked_atoms + end - first >= count:
            continue
        blanks.append((first, end))
        free[first : end + 2] = False
        masked, masked_atoms = masked + tokens, masked_atoms + end - first
        if masked >= budget or len(blanks) >= room:
            break
    return blanks


def sentence_blanks(
    lengths: np.ndarray,
    sentence_ends: np.ndarray,
    uniform: np.ndarray,
    settings: MaskingSettings,
    room: int,
) -> list[tuple[int, int]]:
    """Whole sentences until enough tokens are masked; one stays visible where there are several.

    A sentence ends with the atoms where ``sentence_ends`` ``(n,)`` is set.
    """
    ends = (np.flatnonzero(sentence_ends) + 1).tolist()
    if not ends or ends[-1] != len(lengths):
        ends.append(len(lengths))  # what follows the last end is a sentence too
    ranges = list(zip([0, *ends[:-1]], ends, strict=True))
    budget = settings.sentence_ratio * int(lengths.sum())
    left, masked = list(range(len(ranges))), 0
    blanks: list[tuple[int, int]] = []
    most = min(max(1, len(ranges) - 1), room, len(uniform))
    while len(blanks) < most and masked < budget:
        first, end = ranges[left.pop(int(uniform[len(blanks)] * len(left)))]
        blanks.append((first, end))
        masked += int(lengths[first:end].sum())
    return blanks


def document_blank(
    lengths: np.ndarray, uniform: np.ndarray, settings: MaskingSettings
) -> tuple[int, int]:
    """One range whose length is uniform between ``document_min`` and all of the document.

    The drawn length is snapped to atoms: of all ranges that are long enough, one of those that come
    nearest to it. ``uniform`` has two random numbers.
    """
    edges = offsets_of(lengths)
    total, shortest = int(edges[-1]), settings.document_min * int(edges[-1])
    want = shortest + uniform[0] * (total - shortest)
    starts = np.arange(len(lengths))
    above = np.searchsorted(edges, edges[:-1] + want).clip(1, len(lengths))
    starts, ends = np.concatenate([starts, starts]), np.concatenate([above - 1, above])
    tokens = edges[ends] - edges[starts]
    long_enough = (tokens >= shortest) & (ends > starts)
    # the whole document is always among them
    starts, ends = np.append(starts[long_enough], 0), np.append(ends[long_enough], len(lengths))
    pairs = np.unique(np.stack([starts, ends], 1), axis=0)
    away = np.abs(edges[pairs[:, 1]] - edges[pairs[:, 0]] - want)
    nearest = np.flatnonzero(away <= away.min() + 1e-9)
    first, end = pairs[nearest[int(uniform[1] * len(nearest))]]
    return int(first), int(end)


def _atoms(
    documents: Documents, row: int, *, whole_entities: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Of one document: tokens of each atom, and whether a sentence ends with it."""
    units = slice(int(documents.offsets[row]), int(documents.offsets[row + 1]))
    tokens = documents.units.lengths[units].numpy()
    whole = documents.is_entity[units].numpy() & whole_entities
    atoms = np.where(whole, 1, tokens)  # of each unit
    lengths = np.repeat(np.where(whole, tokens, 1), atoms)
    ends = np.zeros(len(lengths), dtype=bool)
    last = atoms.cumsum() - 1
    ends[last[documents.ends_sentence[units].numpy() & (atoms > 0)]] = True
    return lengths, ends


@cache
def _truncated_poisson(mean: float, longest: int) -> np.ndarray:
    """Cumulative probabilities of 1, 2, ..., ``longest`` given that it is one of them."""
    logs = [k * math.log(mean) - math.lgamma(k + 1) for k in range(1, longest + 1)]
    weights = np.exp(np.array(logs) - max(logs)).cumsum()
    result: np.ndarray = weights / weights[-1]
    return result
