"""The network against transformers' T5, and what one reading of a sequence must give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from legos.systems.tiger.layers import Attention, FeedForward
from legos.systems.tiger.model import Reading, Tiger
from tests.systems.tiger.tigers import SIZES, all_scores, ragged, reading, small_tiger

ROWS = [[3], [], [1, 2, 3, 4, 9, 12, 29, 0, 7, 7, 8, 5], [29, 5]]


def _attention(theirs: Any, norm: Any, ours: Attention) -> None:
    theirs.q.weight.copy_(ours.query.weight)
    key, value = ours.key_value.weight.chunk(2)
    theirs.k.weight.copy_(key)
    theirs.v.weight.copy_(value)
    theirs.o.weight.copy_(ours.output.weight)
    norm.weight.copy_(ours.norm.weight)


def _feed_forward(theirs: Any, ours: FeedForward) -> None:
    theirs.layer_norm.weight.copy_(ours.norm.weight)
    theirs.DenseReluDense.wi.weight.copy_(ours.widen.weight)
    theirs.DenseReluDense.wo.weight.copy_(ours.narrow.weight)


@torch.no_grad()
def t5_of(model: Tiger) -> Any:
    """transformers' T5 with the weights of a TIGER."""
    rows, width = model.table.shape
    config = T5Config(
        vocab_size=rows, d_model=width, d_kv=4, d_ff=12, num_layers=2, num_decoder_layers=2,
        num_heads=2, dropout_rate=0.0, decoder_start_token_id=model.start, pad_token_id=model.start,
        tie_word_embeddings=True,
    )  # fmt: skip
    t5: Any = T5ForConditionalGeneration(config).double().eval()
    t5.shared.weight.copy_(model.table)
    for stack, layers, positions, norm in (
        (t5.encoder, model.encoder, model.encoder_positions, model.encoder_norm),
        (t5.decoder, model.decoder, model.decoder_positions, model.decoder_norm),
    ):
        stack.final_layer_norm.weight.copy_(norm.weight)
        first = stack.block[0].layer[0].SelfAttention
        first.relative_attention_bias.weight.copy_(positions.table)
        for block, ours in zip(stack.block, layers, strict=True):
            layer: Any = ours
            _attention(block.layer[0].SelfAttention, block.layer[0].layer_norm, layer.own)
            if stack is t5.decoder:
                _attention(block.layer[1].EncDecAttention, block.layer[1].layer_norm, layer.read)
            _feed_forward(block.layer[-1], layer.feed_forward)
    return t5


def test_it_is_t5_where_it_reads_both_ways() -> None:
    model = small_tiger(reads="both_ways")
    t5, own = t5_of(model), reading(ROWS)
    targets = torch.tensor([4, 17, 0, 29])
    with torch.no_grad():
        losses = model(own, targets)
    for row, history in enumerate(ROWS):
        codes = model.codes + model.firsts
        words = torch.cat([model.start + 1 + own.users[row : row + 1], codes[history].flatten()])
        tuple_of = codes[targets[row]]
        before = torch.cat([torch.tensor([model.start]), tuple_of[:-1]])
        with torch.no_grad():
            logits = t5(input_ids=words[None], decoder_input_ids=before[None]).logits[0]
        expected = torch.zeros((), dtype=torch.float64)
        for level, (first, size) in enumerate(zip(model.firsts.tolist(), SIZES, strict=True)):
            chances = logits[level, first : first + size].log_softmax(0)
            expected -= chances[tuple_of[level] - first]
        torch.testing.assert_close(
            losses[row], expected, rtol=1e-6, atol=0
        )  # its norms are in fp32


@pytest.mark.parametrize("reads", ["causal", "both_ways"])
@pytest.mark.parametrize("more", [{}, {"softmax": "tree", "history": "items"}])
def test_readers_do_not_see_each_other(reads: str, more: dict[str, str]) -> None:
    model = small_tiger(reads=reads, **more)
    together = all_scores(model, reading(ROWS, [1, 2, 3, 4]))
    for row, history in enumerate(ROWS):
        alone = all_scores(model, reading([history], [row + 1]))
        torch.testing.assert_close(alone[0], together[row])


@pytest.mark.parametrize("history", ["codes", "items"])
def test_one_causal_reading_serves_every_next_item(history: str) -> None:
    model, whole = small_tiger(history=history), ROWS[2]
    count = len(whole)
    once = Reading(
        ragged([whole]), torch.tensor([3]), torch.zeros(count + 1, dtype=torch.int64),
        torch.arange(count + 1),
    )  # fmt: skip
    prefixes = [whole[:length] for length in range(count + 1)]
    apart = all_scores(model, reading(prefixes, [3] * (count + 1)))
    torch.testing.assert_close(all_scores(model, once), apart)


def test_what_comes_after_changes_a_reading_both_ways_alone() -> None:
    def scores(reads: str, history: list[int]) -> Tensor:
        first = Reading(ragged([history]), torch.tensor([3]), torch.tensor([0]), torch.tensor([2]))
        return all_scores(small_tiger(reads=reads), first)

    assert torch.equal(scores("causal", [5, 9, 1]), scores("causal", [5, 9, 2]))
    assert not torch.allclose(scores("both_ways", [5, 9, 1]), scores("both_ways", [5, 9, 2]))


def test_order_and_user_count() -> None:
    model = small_tiger()
    forwards, backwards = all_scores(model, reading([[1, 2], [2, 1]], [0, 0]))
    assert not torch.allclose(forwards, backwards)
    one, other = all_scores(model, reading([[1, 2], [1, 2]], [0, 1]))
    assert not torch.allclose(one, other)


def test_somebody_new_is_the_mean_of_all_user_tokens() -> None:
    model = small_tiger()
    new = all_scores(model, reading([[4, 2]], [model.users]))
    with torch.no_grad():
        tokens = model.table[model.start + 1 :]
        tokens[2] = tokens.mean(0)
    torch.testing.assert_close(all_scores(model, reading([[4, 2]], [2])), new)


def test_chances_of_all_possible_tuples_add_up_to_one() -> None:
    model = small_tiger()
    every = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    with torch.no_grad():
        losses = model.losses(model.read(reading([[4, 2], []])), every.expand(2, -1, -1))
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(torch.exp(-losses).sum(1), one)


def test_chances_of_all_items_add_up_to_one_where_codes_compete_in_the_tree() -> None:
    model = small_tiger(softmax="tree")
    total = all_scores(model, reading([[4, 2], []])).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


def test_a_token_an_item_is_the_sum_of_its_codes() -> None:
    model, row = small_tiger(history="items"), [4, 2]
    with torch.no_grad():
        tokens = model._items(torch.tensor(row))
        summed = [
            sum(model.table[model.codes[i, at] + model.firsts[at]] for at in range(4)) for i in row
        ]
        torch.testing.assert_close(tokens, torch.stack(summed))
        assert len(model.read(reading([row])).states) == 3  # the user and two items


@pytest.mark.parametrize("softmax", ["tree", "level"])
def test_every_weight_learns(softmax: str) -> None:
    model = small_tiger(softmax=softmax).train()
    model(reading(ROWS), torch.tensor([4, 17, 0, 29])).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name
