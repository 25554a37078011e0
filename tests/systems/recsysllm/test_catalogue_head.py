"""Bounds by a catalogue's words are above log-probabilities by what the head says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.catalogue_head import CatalogueHead
from tests.systems.recsysllm.small import FAMILIES, ragged, small_backbone, small_llama

FOLLOWS = [[10, 12], [], [31], [10, 11, 12, 31]]


def _with_bias() -> DecoderBackbone:
    """A head of its own, with a bias as GPT-J has it."""
    model = small_llama(tie_word_embeddings=False)
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.randn(head.out_features))
    return DecoderBackbone(model)


@pytest.mark.parametrize("family", [*FAMILIES, "bias"])
@pytest.mark.parametrize("tile", [2**20, 128])  # scores at once: one state and 64 words, if so few
def test_bounds_less_their_excess_are_log_probabilities(
    family: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("legos.systems.recsysllm.catalogue_head._TILE", tile)
    monkeypatch.setattr("legos.systems.recsysllm.catalogue_head._TILE_WORDS", 32)
    backbone: Any = (_with_bias() if family == "bias" else small_backbone(family)).double()
    states = torch.randn(len(FOLLOWS), backbone.width, dtype=torch.float64)
    rows = ragged(FOLLOWS)
    head = CatalogueHead(backbone, torch.tensor([31, 10, 11, 12, 10]))
    steps, ends, totals = head.following(states, rows)
    excess = head.excess(states, totals)
    expected = backbone.logits(states).log_softmax(-1)
    assert bool((excess > 0).all())  # other words take something
    torch.testing.assert_close(
        steps - rows.spread(excess), expected[rows.rows, rows.values], rtol=0, atol=1e-12
    )
    torch.testing.assert_close(ends - excess, expected[:, backbone.special.end], rtol=0, atol=1e-12)


def test_nothing_is_taken_where_the_catalogue_has_every_word() -> None:
    backbone = small_backbone("llama").double()
    states = torch.randn(3, backbone.width, dtype=torch.float64)
    head = CatalogueHead(backbone, torch.arange(backbone.words))
    totals = head.following(states, ragged([[1], [2], [3]]))[2]
    assert float(head.excess(states, totals).detach().max()) < 1e-12


@pytest.mark.parametrize("lead", [1.0, 60.0, 500.0, 2000.0])
def test_words_far_above_the_catalogue_take_what_they_take(lead: float) -> None:
    """exp(88) is the largest of float32: a sure model is further from words that it never wrote."""
    backbone = _with_bias()
    with torch.no_grad():
        backbone.head_rows().bias[50:] += lead  # type: ignore[index]
    states = torch.randn(len(FOLLOWS), backbone.width)
    rows = ragged(FOLLOWS)
    head = CatalogueHead(backbone, torch.tensor([31, 10, 11, 12, 10]))
    steps, _, totals = head.following(states, rows)
    excess = head.excess(states, totals)
    expected = backbone.logits(states).double().log_softmax(-1)
    torch.testing.assert_close(
        (steps - rows.spread(excess)).double(),
        expected[rows.rows, rows.values],
        rtol=1e-5,
        atol=1e-4,
    )
