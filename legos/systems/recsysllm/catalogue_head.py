"""Scores of a catalogue's words, and bounds on the share of all other words.

A log-probability needs the scores of all words, and where layers are few these cost most of a
search. The most frequent words of the catalogue and those that may follow give an upper bound:
other words only take. So these are scored after everything that is read, and all words where a list
depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.systems.recsysllm.backbones.decoder import Backbone

_FREQUENT = 1024  # of Beauty's 8,253 words: bounds are .2 nats above those of all of them
_TILE = 2**20  # scores at once, 4 MB: larger tiles leave the cache of a core and take longer
_TILE_WORDS = 2048


class CatalogueHead:
    """Scores words of a catalogue and [END] after states.

    Args:
        words: ``(n,)`` integers, as often as they occur.
    """

    def __init__(self, backbone: Backbone, words: Tensor) -> None:
        head, end = backbone.head_rows(), backbone.special.end
        self._head, self._end = head, end
        own, counts = words.long().unique(return_counts=True)
        frequent = own[counts.argsort(descending=True, stable=True)[:_FREQUENT]]
        self._frequent = torch.cat([frequent, own.new_tensor([end])]).unique()  # (V',)
        self._weight, self._bias = self._rows(self._frequent)

    def _rows(self, words: Tensor) -> tuple[Tensor, Tensor | None]:
        """Head rows of ``(n,)`` words."""
        weight, bias, end = self._head.weight, self._head.bias, self._head.end
        own = words if end is None else words.masked_fill(words == self._end, 0)
        found, added = weight[own], None if bias is None else bias[own]
        if end is not None:  # which has no row among the others, and no bias
            found = torch.where((words == self._end)[:, None], end.to(found.dtype), found)
            added = None if added is None else added.masked_fill(words == self._end, 0)
        return found, added

    def following(self, states: Tensor, tokens: Ragged) -> tuple[Tensor, Tensor, Tensor]:
        """Upper bounds of the log-probabilities of possible next tokens.

        Args:
            states: ``(P, D)``.
            tokens: P rows of words of the catalogue.

        Returns:
            of each of these tokens ``(Q,)``, of [END] ``(P,)``, and ``(P,)`` the logarithm of the
            sum over frequent words and those that may follow; float32, float64 of a backbone in
            float64.
        """
        end = int(torch.searchsorted(self._frequent, self._end))
        stops, totals = [], []
        for some in states.split(max(1, _TILE // len(self._frequent))):
            scores = _scores(some, self._weight, self._bias)
            stops.append(scores[:, end])
            totals.append(scores.logsumexp(-1))
        ends, total = torch.cat(stops), torch.cat(totals)
        steps = self._own(states, tokens)
        place = torch.searchsorted(self._frequent, tokens.values)
        place = place.clamp(max=len(self._frequent) - 1)
        rare = self._frequent[place] != tokens.values
        rows, others = tokens.rows[rare], steps[rare]
        most = total.scatter_reduce(0, rows, others, "amax")
        total = (total - most).exp().index_add(0, rows, (others - most[rows]).exp()).log() + most
        return steps - tokens.spread(total), ends - total, total

    def _own(self, states: Tensor, tokens: Ragged) -> Tensor:
        """Score ``(Q,)`` of each of P rows of words after its own state."""
        words, rows = tokens.values, tokens.rows
        found = []
        size = max(1, _TILE // states.shape[1])
        for begin in range(0, len(words), size):
            weight, bias = self._rows(words[begin : begin + size])
            own = torch.einsum("qd,qd->q", states[rows[begin : begin + size]], weight)
            found.append(_precise(own if bias is None else own + bias))
        return torch.cat(found) if found else _precise(states.new_zeros(0))

    def excess(self, states: Tensor, totals: Tensor) -> Tensor:
        """Excess of the bounds over log-probabilities after ``(P, D)`` states: ``(P,)``.

        ``totals`` is what :meth:`following` returned for these states.
        """
        size, excess = _TILE // _TILE_WORDS, []
        for some, total in zip(states.split(size), totals.split(size), strict=True):
            whole = torch.zeros_like(total)
            for scores in self._all(some):
                whole += scores.sub_(total[:, None]).exp_().sum(-1)
            found = whole.log()
            if not bool(found.isfinite().all()):  # too far above the catalogue: slower, any range
                every = torch.stack([scores.logsumexp(-1) for scores in self._all(some)])
                found = every.logsumexp(0) - total
            excess.append(found)
        return torch.cat(excess).clamp(min=0)  # below zero by rounding alone

    def _all(self, states: Tensor) -> Iterator[Tensor]:
        """Scores of all words after ``(p, D)`` states, some words at a time: ``(p, words)``."""
        head = self._head
        for begin in range(0, len(head.weight), _TILE_WORDS):
            end = begin + _TILE_WORDS
            bias = None if head.bias is None else head.bias[begin:end]
            yield _scores(states, head.weight[begin:end], bias)
        if head.end is not None:
            yield _scores(states, head.end.to(states.dtype)[None], None)


def _scores(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _precise(torch.nn.functional.linear(states, weight, bias))


def _precise(scores: Tensor) -> Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()
