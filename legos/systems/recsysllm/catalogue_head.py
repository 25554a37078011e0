"""Scores of a catalogue's words, and how much all other words take from them.

A log-probability needs the scores of all words, and where layers are few these cost most of a
search. The scores of the catalogue's words alone give an upper bound: other words only take. So
they are computed for everything that is read, and those of all words where a list depends on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.systems.recsysllm.backbones.decoder import Backbone

_TILE = 2**20  # scores at once, 4 MB: larger tiles leave the cache of a core and take longer
_TILE_WORDS = 2048


class CatalogueHead:
    """Scores words of a catalogue and [END] after states.

    Args:
        words: ``(n,)`` integers, any of them more than once.
    """

    def __init__(self, backbone: Backbone, words: Tensor) -> None:
        head, end = backbone.head_rows(), backbone.special.end
        self._head, self._end = head, end
        self._words = torch.cat([words.long(), words.new_tensor([end]).long()]).unique()  # (V',)
        inside = self._words[self._words < len(head.weight)]
        self._weight = head.weight[inside]
        self._bias = None if head.bias is None else head.bias[inside]
        if head.end is not None:  # the last of all tokens
            self._weight = torch.cat([self._weight, head.end.to(self._weight.dtype)[None]])
            if self._bias is not None:
                self._bias = torch.cat([self._bias, self._bias.new_zeros(1)])

    def following(self, states: Tensor, tokens: Ragged) -> tuple[Tensor, Tensor, Tensor]:
        """Upper bounds of the log-probabilities of what may follow.

        Args:
            states: ``(P, D)``.
            tokens: P rows of words of the catalogue.

        Returns:
            of each of these tokens ``(Q,)``, of [END] ``(P,)``, and ``(P,)`` the logarithm of the
            sum over the catalogue; float32, float64 of a backbone in float64.
        """
        place = Ragged(torch.searchsorted(self._words, tokens.values), tokens.offsets)
        end = int(torch.searchsorted(self._words, self._end))
        steps, stops, totals = [], [], []
        size = max(1, _TILE // len(self._words))
        for begin in range(0, len(states), size):
            scores = _scores(states[begin : begin + size], self._weight, self._bias)
            total = scores.logsumexp(-1)
            offsets = place.offsets[begin : begin + size + 1]
            own = Ragged(place.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])
            steps.append(scores[own.rows, own.values] - own.spread(total))
            stops.append(scores[:, end] - total)
            totals.append(total)
        return torch.cat(steps), torch.cat(stops), torch.cat(totals)

    def excess(self, states: Tensor, totals: Tensor) -> Tensor:
        """By how much the bounds after ``(P, D)`` states are above log-probabilities: ``(P,)``.

        ``totals`` is what :meth:`following` returned for these states.
        """
        head, words = self._head, _TILE_WORDS
        excess = []
        for some, total in zip(
            states.split(_TILE // words), totals.split(_TILE // words), strict=True
        ):
            parts = [
                _scores(
                    some, head.weight[begin : begin + words],
                    None if head.bias is None else head.bias[begin : begin + words],
                ).logsumexp(-1)
                for begin in range(0, len(head.weight), words)
            ]  # fmt: skip
            if head.end is not None:
                parts.append(_scores(some, head.end.to(some.dtype)[None], None)[:, 0])
            excess.append(torch.stack(parts).logsumexp(0) - total)
        return torch.cat(excess).clamp(min=0)  # below zero by rounding alone


def _scores(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    scores = torch.nn.functional.linear(states, weight, bias)
    return scores if scores.dtype == torch.float64 else scores.float()
