"""The backbone reads users and items as further rows of its token table, packed or padded.

| invariant | test |
|---|---|
| embedding = row gather | test_embedding_is_a_row_gather, test_ids_out_of_range |
| only words: the untouched model's logits | test_words_alone_give_the_untouched_logits |
| two passes = one = packed | test_two_passes_equal_one_packed, test_t5_equals_two_passes |
| padding and batch-mates change nothing | test_padding_changes_nothing |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from legos.data.rows import pack, token_batches
from legos.errors import ConfigError, DataError
from legos.lm.text_model import layer_stack
from legos.lm.word_model import keep_layers
from legos.systems.cllm4rec.backbone import SoftPromptBackbone, SoftTables
from legos.systems.cllm4rec.settings import SoftPromptSettings
from legos.systems.cllm4rec.tokenizer import Vocabulary, pad
from tests.systems.cllm4rec.small import (
    CAUSAL,
    FAMILIES,
    WORDS,
    lists,
    ragged,
    random_sequences,
    small_backbone,
    small_model,
)

VOCABULARY = Vocabulary(WORDS, 5, 7)
LENGTHS, PROMPTS = [7, 1, 9, 3, 12, 4], torch.tensor([4, 1, 2, 3, 5, 4])
TOLERANCE = 1e-5  # fp32


def tables(width: int, *, std: float = 0.1) -> SoftTables:
    return SoftTables(VOCABULARY, width=width, std=std, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_embedding_is_a_row_gather(family: str) -> None:
    backbone = small_backbone(family)
    soft = tables(backbone.width)
    ids = random_sequences(VOCABULARY, [40]).values.view(5, 8)
    whole = torch.cat([backbone.token_table, soft.user.weight, soft.item.weight])
    assert torch.equal(backbone.embed(ids, soft), whole[ids])


@pytest.mark.parametrize("wrong", [-1, VOCABULARY.size])
def test_ids_out_of_range(wrong: int) -> None:
    backbone = small_backbone()
    with pytest.raises(DataError, match=f"token id {wrong}: expected 0 to {VOCABULARY.size - 1}"):
        backbone.embed(torch.tensor([3, wrong]), tables(backbone.width))


def word_logits(backbone: SoftPromptBackbone, states: Tensor) -> Tensor:
    return (states * backbone.output_scale) @ backbone.output_table.T


@pytest.mark.parametrize("family", ["gpt2", "untied"])  # with a tied head, and with its own
def test_words_alone_give_the_untouched_logits(family: str) -> None:
    untouched, backbone = small_model(family), small_backbone(family)
    assert (backbone.head is None) == (family == "gpt2")
    ids = random_sequences(Vocabulary(WORDS, 1, 1), [9]).values % WORDS
    with torch.no_grad():
        expected = untouched(ids[None]).logits[0]
        for count in (1, 50):
            vocabulary = Vocabulary(WORDS, count, count)
            soft = SoftTables(vocabulary, width=backbone.width, std=1.0)
            states = backbone.states(ragged([ids.tolist()]), torch.tensor([3]), soft)
            assert torch.allclose(word_logits(backbone, states), expected, atol=TOLERANCE)


def test_t5_words_alone_give_the_untouched_logits() -> None:
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration(small_model("t5").config).eval()
    backbone = small_backbone("t5")
    backbone.model.load_state_dict(model.state_dict(), strict=False)
    prompt, main = [5, 9, 2, 3], [11, 4, 8]
    soft = tables(backbone.width)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([prompt]), labels=torch.tensor([main])).logits[0]
        states = backbone.states(ragged([prompt + main]), torch.tensor([4]), soft)
    assert torch.allclose(word_logits(backbone, states[3:6]), expected, atol=TOLERANCE)


def two_passes(backbone: Any, ids: Tensor, prompt: int, soft: SoftTables) -> Tensor:
    """The public code's way: prompt first, main text with its keys and values."""
    cache = backbone.new_cache()
    vectors = backbone.embed(ids[None], soft)
    parts = [backbone.extend(vectors[:, :prompt], cache)]
    if len(ids) > prompt:
        parts.append(backbone.extend(vectors[:, prompt:], cache))
    return torch.cat(parts, 1)[0]


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("row_tokens", [1, 13, 1000])
def test_two_passes_equal_one_packed(family: str, row_tokens: int) -> None:
    backbone = small_backbone(family, row_tokens=row_tokens)
    soft, tokens = tables(backbone.width), random_sequences(VOCABULARY, LENGTHS)
    with torch.no_grad():
        found = backbone.states(tokens, PROMPTS, soft)
        alone = [
            two_passes(backbone, torch.tensor(ids), int(prompt), soft)
            for ids, prompt in zip(lists(tokens), PROMPTS, strict=True)
        ]
    assert torch.allclose(found, torch.cat(alone), atol=TOLERANCE)


def test_two_passes_give_the_same_gradients() -> None:
    backbone = small_backbone("gpt2", row_tokens=13)
    tokens = random_sequences(VOCABULARY, LENGTHS)
    first, second = tables(backbone.width), tables(backbone.width)
    backbone.states(tokens, PROMPTS, first).square().sum().backward()
    for ids, prompt in zip(lists(tokens), PROMPTS, strict=True):
        two_passes(backbone, torch.tensor(ids), int(prompt), second).square().sum().backward()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_packed_rows_under_both_attentions(implementation: str) -> None:
    backbone = small_backbone("opt")
    backbone.model.set_attn_implementation(implementation)
    soft, tokens = tables(backbone.width), random_sequences(VOCABULARY, LENGTHS)
    with torch.no_grad():
        found = backbone.states(tokens, PROMPTS, soft)
        backbone.row_tokens = 1
        assert torch.allclose(found, backbone.states(tokens, PROMPTS, soft), atol=TOLERANCE)


def test_t5_equals_two_passes() -> None:
    backbone = small_backbone("t5")
    soft, tokens = tables(backbone.width), random_sequences(VOCABULARY, LENGTHS)
    model = backbone.model
    with torch.no_grad():
        found = backbone.states(tokens, PROMPTS, soft)
        for ids, start, prompt in zip(lists(tokens), tokens.offsets, PROMPTS, strict=False):
            vectors = backbone.embed(torch.tensor([ids]), soft)
            main = torch.cat([backbone.token_table[None, :1], vectors[:, prompt:]], 1)
            out = model(inputs_embeds=vectors[:, :prompt], decoder_inputs_embeds=main)
            here = slice(int(start + prompt) - 1, int(start) + len(ids))
            assert torch.allclose(found[here], out.last_hidden_state[0], atol=TOLERANCE)


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_changes_nothing(family: str) -> None:
    backbone = small_backbone(family)
    soft, tokens = tables(backbone.width), random_sequences(VOCABULARY, LENGTHS)
    ids, mask = (functional.pad(each, (0, 20 - each.shape[1])) for each in pad(tokens))
    assert ids.shape == (6, 20)
    other = ids.where(mask, torch.tensor(VOCABULARY.size - 1))
    with torch.no_grad():
        found = backbone.states(tokens, PROMPTS, soft)
        for padding in (ids, other):
            padded = backbone.padded_states(padding, mask, soft)[mask]
            assert torch.allclose(padded, found, atol=TOLERANCE)
        # padding between prompt and main text, as the public code lays out prompts of two lengths
        gap = torch.cat([ids[2, :4], ids.new_zeros(3), ids[2, 4:9]])[None]
        real = torch.tensor([[1] * 4 + [0] * 3 + [1] * 5])
        inside = backbone.padded_states(gap, real, soft)[real.bool()]
        assert torch.allclose(inside, found[8:17], atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_backbone_is_its_first_layers(family: str) -> None:
    whole, cut = small_backbone(family), small_model(family)
    keep_layers(cut, 2)
    backbone = SoftPromptBackbone(cut)
    soft, tokens = tables(whole.width), random_sequences(VOCABULARY, [6])
    with torch.no_grad():
        found = backbone.states(tokens, torch.tensor([6]), soft)
        assert not torch.allclose(found, whole.states(tokens, torch.tensor([6]), soft), atol=1e-3)
        _make_last_layer_pass(whole.model)
        assert torch.allclose(found, whole.states(tokens, torch.tensor([6]), soft), atol=TOLERANCE)
    with pytest.raises(ConfigError, match="expected 1 to 2"):
        keep_layers(cut, 3)


def _make_last_layer_pass(model: Any) -> None:
    """Zero what the last layer adds to its residual stream."""
    stacks = [model.encoder.block, model.decoder.block] if hasattr(model, "encoder") else []
    stacks = stacks or [layer_stack(model)[1]]
    outputs = ("c_proj", "o_proj", "out_proj", "down_proj", "fc2", "o", "wo")
    for stack in stacks:
        for name, module in stack[-1].named_modules():
            if name.rpartition(".")[2] in outputs:
                for parameter in module.parameters():
                    parameter.zero_()


def test_what_is_no_backbone() -> None:
    model = small_model("gpt2")
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(WORDS))
    with pytest.raises(ConfigError, match="a bias"):
        SoftPromptBackbone(model)
    backbone = small_backbone("gpt2")
    with pytest.raises(DataError, match="65 tokens; GPT2Model reads at most 64"):
        backbone.states(
            random_sequences(VOCABULARY, [65]), torch.tensor([1]), tables(backbone.width)
        )
    with pytest.raises(ConfigError, match="keeps no prefix"):
        small_backbone("t5").new_cache()


@pytest.mark.parametrize(("train", "expected"), [("frozen", 0), ("lora", 6), ("full", -1)])
def test_what_of_the_backbone_learns(train: str, expected: int) -> None:
    backbone = small_backbone("gpt2", train=train)
    learning = [name for name, p in backbone.named_parameters() if p.requires_grad]
    count = len(list(backbone.parameters())) if expected < 0 else expected
    assert len(learning) == count
    if train == "lora":
        assert all("lora_" in name for name in learning)
        assert SoftPromptSettings().lora_rank == 16


def test_placement_and_token_budget() -> None:
    tokens = random_sequences(VOCABULARY, [5, 4, 3, 8])
    packed = pack(tokens, 9)
    assert (packed.num_rows, packed.width) == (3, 9)
    assert packed.slots.tolist() == [*range(9), *range(9, 12), *range(18, 26)]
    lengths = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(0))
    groups = token_batches(lengths, 64)
    assert sorted(torch.cat(groups).tolist()) == list(range(200))
    assert max(int(lengths[group].sum()) for group in groups) <= 64
    with pytest.raises(ConfigError, match="does not fit into a budget of 8"):
        token_batches(torch.tensor([3, 9]), 8)
