"""What a decoder is before anything is trained, and that its blanks can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from legos.data.ragged import Ragged, from_lengths, offsets_of
from legos.lm.word_model import word_model
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, PositionRows, start_words
from legos.systems.recsysllm.decoding import fill_blanks, read_prompts, token_losses
from legos.systems.recsysllm.masking import ENTITY, Blanks
from legos.systems.recsysllm.positions import (
    IGNORE,
    Examples,
    Inputs,
    build_examples,
    lay_out,
)
from legos.systems.recsysllm.recipe import InfillLoss
from legos.systems.recsysllm.settings import DecoderSettings, PositionSettings
from legos.systems.recsysllm.units import Documents
from legos.systems.trie import build_trie
from tests.lm.families import smollm2
from tests.systems.recsysllm.small import ragged, small_gpt2, small_llama

TEXT = (
    "The gift card arrived by mail two days later, in an envelope with a red ribbon. My sister "
    "used it the same evening to order a book about gardens and a pair of warm socks. She told me "
    "that the code on the back was easy to read, and that she would gladly get another one."
)
NO_TRIE = build_trie(ragged([[1]]))


def _continued(tokens: Tensor, given: int) -> Examples:
    """One text: the first tokens are Part A, the others are predicted as they stand."""
    count = len(tokens)
    targets = tokens.roll(-1)
    targets[: given - 1] = targets[-1] = IGNORE
    inter = torch.arange(count).clamp(max=given - 1)
    one = torch.tensor([1])
    return Examples(
        tokens, targets, inter, torch.zeros_like(tokens), offsets_of(one * count), one * given,
        from_lengths(one * (given - 1), one),
    )  # fmt: skip


def _nats(
    backbone: DecoderBackbone, tokens: Tensor, given: int, settings: DecoderSettings
) -> float:
    examples = _continued(tokens, given)
    layout = lay_out(examples, pad=0, bidirectional=settings.both_ways)
    with torch.no_grad():
        return float(InfillLoss(backbone, "tokens")(examples, layout))


def _nats_of_transformers(model: Any, tokens: Tensor, given: int) -> float:
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    return float(functional.cross_entropy(logits[given - 1 : -1], tokens[given:]))


@pytest.mark.parametrize("starts", [(7, 7, 7, 8, 9), (None,) * 5])
def test_plain_text_costs_what_it_costs_transformers(starts: Sequence[int | None]) -> None:
    model = small_llama(words=500, initializer_range=0.02)
    tokens = torch.randint(10, 500, (60,), generator=torch.Generator().manual_seed(0))
    expected = _nats_of_transformers(model, tokens, 20)
    backbone = DecoderBackbone(model, starts=starts).eval()
    found = _nats(backbone, tokens, 20, DecoderSettings())
    assert 0 <= found - expected < 0.02  # [END] alone is one word more
    everywhere = _nats(backbone, tokens, 20, DecoderSettings(bidirectional=True))
    assert abs(everywhere - found) > 1e-6  # only the default reads as the model was trained


@pytest.mark.slow
def test_plain_text_costs_what_it_costs_smollm2() -> None:
    language = smollm2()
    model = word_model(language, "pretrained").eval()
    backbone = DecoderBackbone(model, starts=start_words(language)).eval()
    tokens = torch.tensor(language.tokenizer.encode(TEXT, add_special_tokens=False).ids)
    with torch.no_grad():
        states = backbone.model(input_ids=tokens[None]).last_hidden_state[0, 19:-1]
        expected = functional.cross_entropy(states @ backbone.token_table.T, tokens[20:])
    found = _nats(backbone, tokens, 20, DecoderSettings())
    assert found == pytest.approx(float(expected), abs=0.02)
    words = [language.tokenizer.decode([word]) for word in start_words(language)]  # type: ignore[list-item]
    assert words == ["___", "___", "___", ":", "\n"]


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_words(tied: bool) -> None:
    backbone = DecoderBackbone(small_llama(tie_word_embeddings=tied), starts=(7, 7, 7, 8, 9)).eval()
    special = backbone.special
    new = torch.tensor([[*special.masks, special.start]])
    assert torch.equal(backbone.embed(new), backbone.embed(torch.tensor([[7, 7, 7, 8]])))
    logits = backbone.logits(torch.randn(4, backbone.width))
    assert torch.allclose(logits[:, special.end], logits[:, 9])
    assert bool((logits[:, new[0]] == -torch.inf).all())  # never written, so they cost nothing
    assert logits.shape == (4, backbone.num_tokens)
    mean = DecoderBackbone(small_llama(), starts=(7, 7, 7, 8, None))
    assert mean.ends == [mean.special.end]


def test_the_end_of_text_closes_a_blank_until_the_end_is_trained() -> None:
    model = small_llama(eos_token_id=11)
    backbone = DecoderBackbone(model, starts=(7, 7, 7, 8, 9)).eval()
    special = backbone.special
    assert backbone.ends == [special.end, 9, 11]
    automaton = Automaton(NO_TRIE, PositionSettings())
    prompts = _two_blanks(backbone, 1).prompts()

    def filled(word: int) -> list[bool]:
        def choose(scores: Tensor) -> Tensor:
            return torch.full((len(scores),), word)

        read = read_prompts(backbone, prompts, bidirectional=False)
        return fill_blanks(backbone, read, automaton, max_new=3, choose=choose).complete.tolist()

    assert [filled(word) for word in (special.end, 9, 11, 12)] == [[True] * 2] * 3 + [[False] * 2]
    with torch.no_grad():
        backbone.new_tokens[-1, 0] += 0.01  # a step of training
    assert [filled(word) for word in (special.end, 11)] == [[True] * 2, [False] * 2]


def _two_blanks(backbone: DecoderBackbone, count: int, order: Tensor | None = None) -> Examples:
    """30 [M] 32 [M] 34, the first of which is 31 and the second 33."""
    ones = torch.ones(5 * count, dtype=torch.int64)
    documents = Documents(
        units=from_lengths(torch.arange(30, 35, dtype=torch.int32).repeat(count), ones),
        offsets=torch.arange(count + 1) * 5,
        is_entity=torch.zeros(5 * count, dtype=torch.bool),
        ends_sentence=torch.zeros(5 * count, dtype=torch.bool),
        events=-ones,
    )
    ranges = torch.tensor([[1, 2], [3, 4]]).repeat(count, 1)
    blanks = Blanks(Ragged(ranges, torch.arange(count + 1) * 2), torch.full((count,), ENTITY))
    own = PositionSettings()
    return build_examples(
        documents, blanks, backbone.special, own, Automaton(NO_TRIE, own), span_order=order
    )


@pytest.mark.parametrize("mode", ["sequential", "glm"])
@pytest.mark.parametrize("model", [small_llama, small_gpt2])
def test_inter_positions_reach_the_states(model: Any, mode: Any) -> None:
    rows = PositionRows(inter=16, intra=8)
    backbone = DecoderBackbone(model(), rows=rows, position_mode=mode).eval()
    examples = _two_blanks(backbone, 1)
    layout = lay_out(examples, pad=0, bidirectional=False)
    own = layout.inputs
    others = Inputs(own.tokens, own.inter.flip(1), own.intra, own.order)

    def differ() -> bool:
        one, two = (backbone.states(inputs, layout.mask) for inputs in (own, others))
        return not torch.allclose(one, two, atol=1e-4)

    assert differ() == (mode == "glm")  # a table of zeros changes nothing
    torch.nn.init.normal_(backbone.inter.table.weight)
    assert differ()
    backbone.zero_grad()
    InfillLoss(backbone, "tokens")(examples, layout).backward()
    gradient = backbone.inter.table.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]  # all of Part A


@pytest.mark.slow
@pytest.mark.parametrize("has_table", [True, False])
def test_blanks_in_any_order_are_told_apart_by_the_inter_position(has_table: bool) -> None:
    """Which of two blanks is filled first is a coin; only the inter-position says how it fell."""
    backbone = DecoderBackbone(small_llama(), rows=PositionRows(inter=16, intra=8))
    backbone.requires_grad_(True)
    backbone.inter.requires_grad_(has_table)
    optimizer = torch.optim.Adam([p for p in backbone.parameters() if p.requires_grad], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        examples = _two_blanks(backbone, 8, torch.rand(16, generator=generator))
        optimizer.zero_grad()
        layout = lay_out(examples, pad=0, bidirectional=False)
        InfillLoss(backbone, "tokens")(examples, layout).backward()
        optimizer.step()
    examples = _two_blanks(backbone, 8, torch.rand(16, generator=generator))
    layout = lay_out(examples, pad=0, bidirectional=False)
    first = examples.offsets[:-1] + examples.prompt_lengths  # [START] of the first blank
    with torch.no_grad():
        states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)
        losses = token_losses(backbone, states[layout.slots[first]], examples.targets[first])
    assert (float(losses.mean()) < 0.1) if has_table else (float(losses.mean()) > 0.5)


def test_defaults_read_as_the_language_model_was_trained() -> None:
    assert not DecoderSettings().both_ways
    assert DecoderSettings(kind="glm").both_ways
    for given in (True, False):
        assert DecoderSettings(bidirectional=given).both_ways is given
    told = DecoderSettings().told_in_ids()
    assert told == DecoderSettings(bidirectional=False).told_in_ids()
    with pytest.raises(ValidationError, match="positions glm: only for decoders"):
        DecoderSettings(kind="glm", positions="glm")
